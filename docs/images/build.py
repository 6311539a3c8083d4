"""Take the pictures of docs/page.md: `python docs/images/build.py URL`, where a service of QC and QI runs.

The QC bundle needs a report `test-set.html`, and the service RELEVANCE_OPEN_REPORTS=true. Sends some requests first, so
that Live has something to show. Each view is also looked at in the other sizes and colours: with `--all FOLDER` these
pictures go there, for people to check. Needs chromium and playwright.
"""

import argparse
import itertools
import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser import SIZES, Tab, chromium, tab  # noqa: E402

FOLDER = Path(__file__).resolve().parent
SAMPLE = json.loads((ROOT / "service/api/page/static/sample.json").read_text(encoding="utf-8"))
LOAD_SECONDS = 60
CANDIDATES = (1, 5, 8, 20, 60, 120)  # of the requests
SHOWN = "zapatillas para correr"
LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


def load(url: str, ended: threading.Event) -> None:
    """Score requests of several sizes, one after another; some have a deadline that cannot be met."""
    for place in itertools.count():
        if ended.wait(0.05):
            return
        size, sample = CANDIDATES[place % len(CANDIDATES)], SAMPLE[place % len(SAMPLE)]
        task = ("qc", "qi")[place % 2]
        titles = list(itertools.islice(itertools.cycle(sample[task]), size))
        body = {"task": task, "query": sample["query"], "language": sample["language"], "candidates": titles}
        headers = {"Content-Type": "application/json", "X-Request-Timeout-Ms": "1" if place % 17 == 0 else "60000"}
        request = urllib.request.Request(f"{url}/v1/score", json.dumps(body).encode(), headers)
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            error.close()


def playground(opened: Tab) -> None:
    """Show a query and the words that moved its first score."""
    opened.go("/")
    opened.page.get_by_role("button", name=SHOWN).click()
    opened.page.locator(".result").nth(17).wait_for()
    opened.page.locator(".panel[aria-busy]").first.wait_for(state="detached")
    opened.page.get_by_role("button", name="Why?").first.click()
    opened.page.locator(".word").first.wait_for()
    opened.page.mouse.move(0, 0)


def live(opened: Tab) -> None:
    """Show what the load does."""
    opened.go("/#/live?minutes=1")
    opened.page.wait_for_timeout(1000 * LOAD_SECONDS)


def models(opened: Tab) -> None:
    """Show the card of the QC model."""
    opened.go("/#/models")
    opened.page.get_by_role("heading", name="Reports").wait_for()
    opened.page.wait_for_timeout(1000)  # the plots


def report(opened: Tab) -> None:
    """Show a report of the QC model."""
    models(opened)
    opened.page.get_by_role("link", name="Test set").click()
    opened.page.frame_locator("iframe").get_by_role("heading", name="By language").wait_for()


PICTURES: dict[Callable[[Tab], None], tuple[str, str]] = {
    playground: ("wide", "light"),
    live: ("wide", "dark"),
    models: ("narrow", "light"),
    report: ("wide", "light"),
}


def main(url: str, others: Path | None) -> None:
    """Write the pictures beside this file, and those of other looks into the folder `others`."""
    ended = threading.Event()
    loading = threading.Thread(target=load, args=(url, ended))
    with chromium() as browser:
        for show, usual in PICTURES.items():
            if show is live:
                loading.start()
            for look in LOOKS if others else [usual]:
                with tab(browser, url, *look) as opened:
                    show(opened)
                    name = f"{show.__name__}.png" if look == usual else f"{show.__name__}-{'-'.join(look)}.png"
                    opened.page.screenshot(path=(FOLDER if look == usual else others) / name)
                    print(name, *opened.faults)
            if show is live:
                ended.set()
                loading.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="write the pictures of all other looks too")
    options = parser.parse_args()
    if options.all:
        options.all.mkdir(parents=True, exist_ok=True)
    main(options.url.rstrip("/"), options.all)
