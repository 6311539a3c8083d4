"""Draws the diagrams of the docs into docs/site/diagrams: `python docs/site/diagrams.py MERMAID_JS`.

MERMAID_JS is `dist/mermaid.min.js` of the npm package mermaid. Needs chromium and playwright (extra `dev`). A picture
is named by the hash of its text, so a changed diagram is drawn again, and pictures that no page has any more go.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from hooks import BLOCK, DIAGRAMS, picture_name  # noqa: E402 - the folders above are searched first
from pages import ROOT, pages  # noqa: E402

from tests.browser import chromium  # noqa: E402

DRAW = """async (text) => {
  mermaid.initialize({ startOnLoad: false, theme: "neutral", htmlLabels: false, flowchart: { htmlLabels: false } });
  return (await mermaid.render("diagram", text)).svg;
}"""


def main(script: Path) -> None:
    """Draw what is missing."""
    texts = {picture_name(text): text for page in pages() for text in BLOCK.findall((ROOT / page).read_text("utf-8"))}
    DIAGRAMS.mkdir(exist_ok=True)
    for old in DIAGRAMS.glob("*.svg"):
        if old.name not in texts:
            old.unlink()
    with chromium() as browser:
        page = browser.new_page()
        page.add_script_tag(path=script)
        for name, text in texts.items():
            if not (DIAGRAMS / name).is_file():
                (DIAGRAMS / name).write_text(page.evaluate(DRAW, text) + "\n", encoding="utf-8")
                print(DIAGRAMS / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
