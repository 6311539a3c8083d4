"""Drives a headless Chromium for tests of pages, and collects what must not happen: errors, and requests elsewhere."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHROMIUM = shutil.which("chromium")
INSTALLED = CHROMIUM is not None and all(find_spec(name) for name in ("playwright", "axe_playwright_python"))
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SIZES = {"wide": (1280, 860), "narrow": (390, 844)}
TIMEOUT_MILLISECONDS = 180_000  # a limit for a busy machine; nothing waits for it


class Tab:
    """A page of the browser; `faults` lists console errors, uncaught exceptions and requests to other hosts."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url, self.faults = page, url, []
        page.set_default_timeout(TIMEOUT_MILLISECONDS)
        page.on("console", lambda said: self._note(said.type in ("error", "warning"), f"console: {said.text}"))
        page.on("pageerror", lambda error: self._note(True, f"exception: {error}"))
        page.on("request", lambda request: self._note(not self._is_ours(request.url), f"request: {request.url}"))

    def go(self, path: str) -> None:
        """Open a path of the service."""
        self.page.goto(self.url + path)

    def serious(self) -> list[str]:
        """Return what axe-core finds serious or critical on the page as it is."""
        found = self._evaluate("axe.run().then(found => JSON.stringify(found.violations))")
        worst = [each for each in json.loads(found) if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {node['html'][:200]}" for each in worst for node in each["nodes"][:3]]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def _evaluate(self, expression: str) -> str:
        """Evaluate through the debugger, which the page's Content-Security-Policy does not stop."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Runtime.evaluate", {"expression": _axe()})
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        return str(session.send("Runtime.evaluate", asked)["result"]["value"])

    def _is_ours(self, url: str) -> bool:
        return url.startswith(("data:", f"blob:{self.url}")) or urlsplit(url).netloc == urlsplit(self.url).netloc

    def _note(self, is_fault: bool, text: str) -> None:
        if is_fault:
            self.faults.append(text)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=TIMEOUT_MILLISECONDS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def tab(browser: Any, url: str, size: str = "wide", scheme: str = "light", **options: Any) -> Iterator[Tab]:
    """Open a tab with storage of its own, `wide` or `narrow`, `light` or `dark`."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
    try:
        yield Tab(context.new_page(), url)
    finally:
        context.close()


def _axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
