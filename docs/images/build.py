"""Take the pictures of docs/page.md: `python docs/images/build.py URL`, where a service of QC and QI runs.

Sends some requests first, so that Live has something to show. Needs chromium and playwright.
"""

import itertools
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser import Tab, chromium, tab  # noqa: E402

FOLDER = Path(__file__).resolve().parent
SAMPLE = json.loads((ROOT / "service/api/page/static/sample.json").read_text(encoding="utf-8"))
LOAD_SECONDS = 60
SIZES = (1, 5, 8, 20, 60, 120)  # candidates a request
SHOWN = "zapatillas para correr"


def load(url: str, seconds: float) -> None:
    """Score requests of several sizes, one after another; some have a deadline that cannot be met."""
    until = time.monotonic() + seconds
    for place in itertools.count():
        if time.monotonic() > until:
            return
        size, sample = SIZES[place % len(SIZES)], SAMPLE[place % len(SAMPLE)]
        task = ("qc", "qi")[place % 2]
        titles = list(itertools.islice(itertools.cycle(sample[task]), size))
        body = {"task": task, "query": sample["query"], "language": sample["language"], "candidates": titles}
        headers = {"Content-Type": "application/json", "X-Request-Timeout-Ms": "1" if place % 17 == 0 else "60000"}
        request = urllib.request.Request(f"{url}/v1/score", json.dumps(body).encode(), headers)
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            error.close()
        time.sleep(0.05)


def playground(opened: Tab) -> None:
    """Show a query and the words that moved its first score."""
    opened.go("/")
    opened.page.get_by_role("button", name=SHOWN).click()
    opened.page.locator(".result").nth(17).wait_for()
    opened.page.wait_for_timeout(1000)
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
    opened.page.wait_for_timeout(3000)


def main(url: str) -> None:
    """Write the pictures beside this file."""
    loading = threading.Thread(target=load, args=(url, LOAD_SECONDS + 5))
    with chromium() as browser:
        for show, size, scheme in ((playground, "wide", "light"), (live, "wide", "dark"), (models, "narrow", "light")):
            if show is live:
                loading.start()
            with tab(browser, url, size, scheme) as opened:
                show(opened)
                opened.page.screenshot(path=FOLDER / f"{show.__name__}.png")
                print(f"{show.__name__}.png", *opened.faults)
    loading.join()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
