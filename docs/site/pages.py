"""Builds the site of the docs into build/site: `python docs/site/pages.py`, or `make docs`. Needs the extra `docs`.

The pages lie all over the repository and link to one another and to results. So they are staged first, in folders as in
the repository, with every file that they link to; then mkdocs builds them, and its warnings are errors.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / "build" / "site-pages"
CONFIG = Path(__file__).with_name("mkdocs.yml")
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
NAMED = re.compile(r"\S+\.md$", re.MULTILINE)


def pages() -> list[str]:
    """Return the pages as paths in the repository: those that the configuration names, and all below docs."""
    named = NAMED.findall(CONFIG.read_text(encoding="utf-8").partition("\nnav:")[2])
    return sorted({*named, *(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))})


def stage() -> None:
    """Copy the pages and the files that they link to; links that lead nowhere are left for mkdocs to report."""
    shutil.rmtree(STAGE, ignore_errors=True)
    here = Path(__file__).parent
    wanted = {ROOT / page for page in pages()} | {
        *here.glob("diagrams/*.svg"),
        here / "extra.css",
        *here.glob("*.js"),
    }
    for page in [path for path in wanted if path.suffix == ".md"]:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            linked = (page.parent / target).resolve()
            if linked.is_file() and linked.suffix != ".md":
                wanted.add(linked)
    for path in wanted:
        copy = STAGE / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def main() -> None:
    """Stage and build; exits with the status of mkdocs."""
    stage()
    sys.exit(subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-f", CONFIG]).returncode)


if __name__ == "__main__":
    main()
