"""The review page in a real browser: decisions made with the keyboard are there when the page is loaded again."""

import json
import re
import shutil
import subprocess

import pytest
from websockets.sync.client import connect

from relevance.tasks import LabeledPair, Pair, Task
from training.reports.review import write_review
from training.selfvalidation.judging import Suggestion
from training.selfvalidation.options import Flag
from training.selfvalidation.stage import FlaggedRow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SECONDS = 120  # a limit for a busy machine; nothing waits for it


class Page:
    """A page of a headless browser, driven by the browser's own protocol."""

    def __init__(self, socket):
        self._socket, self._number = socket, 0
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)  # else keys may come before the page has the focus

    def ask(self, method, **parameters):
        self._send(method, parameters)
        return self._until(lambda message: message.get("id") == self._number)["result"]

    def load(self, method, **parameters):
        """Load a page and wait for the browser to say that it is there."""
        self._send(method, parameters)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def press(self, key, code):
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def value(self, script):
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def decisions(self):
        return self.value("[...document.querySelectorAll('select')].map((select) => select.value)")

    def _send(self, method, parameters):
        self._number += 1
        session = {"sessionId": self._session} if hasattr(self, "_session") else {}
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters} | session))

    def _until(self, is_wanted):
        while True:
            message = json.loads(self._socket.recv(SECONDS))
            if is_wanted(message):
                return message


@pytest.fixture
def page(tmp_path):
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as browser:
        try:
            line = next(line for line in browser.stderr if "DevTools listening" in line)
            with connect(re.search(r"ws://\S+", line).group(), max_size=None) as socket:
                yield Page(socket)
        finally:
            browser.terminate()
            browser.stderr.read()


def write(path, count):
    rows = [LabeledPair(Pair(f"cup {n}", "home,cups", "en"), 1, str(n)) for n in range(count)]
    flagged = [FlaggedRow(row, 0.2, 0.8, (Flag.CONFIDENT,), Suggestion.DROP) for row in rows]
    write_review(path, flagged, Task.QC, "Labels to review")
    return f"file://{path}"


def test_decisions_survive_a_reload_and_stay_with_their_review(page, tmp_path):
    first, other = write(tmp_path / "first.html", 5), write(tmp_path / "other.html", 3)
    page.load("Page.navigate", url=first)
    assert page.decisions() == [""] * 5
    page.value("document.querySelectorAll('select')[1].focus()")
    for key, code in (("d", 68), ("Tab", 9), ("f", 70)):
        page.press(key, code)
    assert page.decisions() == ["", "drop", "flip", "", ""]
    page.load("Page.reload")
    assert page.decisions() == ["", "drop", "flip", "", ""]
    assert "2 of 5 decided, kept in this browser" in page.value("document.getElementById('count').textContent")
    page.load("Page.navigate", url=other)
    assert page.decisions() == [""] * 3
