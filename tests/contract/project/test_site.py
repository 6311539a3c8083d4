"""The site of the docs: every link and anchor leads somewhere, and nothing is asked of another host."""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests import ROOT
from tests.browser import INSTALLED, TIMEOUT_MILLISECONDS, chromium, tab

SITE = ROOT / "build" / "site"
# What a browser loads by itself; links that people click may lead anywhere.
LOADED = re.compile(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE)
OF_STYLES = re.compile(r"(?:url\(|@import )[\"']?(?:https?:)?//")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    pytest.importorskip("material", reason="needs the extra docs")
    command = [sys.executable, ROOT / "docs" / "site" / "pages.py"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return SITE


@pytest.fixture(scope="module")
def url(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_no_file_of_the_site_asks_another_host_for_anything(site):
    pages, styles = list(site.rglob("*.html")), list(site.rglob("*.css"))
    assert len(pages) > 40
    assert styles
    assert [page for page in pages if LOADED.search(page.read_text(encoding="utf-8"))] == []
    assert [style for style in styles if OF_STYLES.search(style.read_text(encoding="utf-8"))] == []


def test_every_page_of_the_docs_is_on_the_site(site):
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.relative_to(site / "docs").with_suffix("") for page in (site / "docs").rglob("*.html")}
    assert {page for page in pages if page.name != "README"} <= built


def test_search_has_an_index_of_its_own(site):
    found = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert any(each["location"] == "docs/serving.html#drift" for each in found)


@pytest.mark.skipif(not INSTALLED, reason="needs chromium, playwright and axe-playwright-python")
def test_page_asks_no_other_host_and_its_diagrams_are_drawn(url):
    from playwright.sync_api import expect

    with chromium() as browser, tab(browser, url, "wide", "dark") as opened:
        opened.go("/docs/architecture.html")
        diagram = opened.page.get_by_alt_text("Diagram").first
        expect(diagram).to_have_js_property("complete", True, timeout=TIMEOUT_MILLISECONDS)
        assert diagram.evaluate("image => image.naturalWidth") > 0
        assert opened.overflow() == 0
        assert opened.faults == []


@pytest.mark.skipif(not INSTALLED, reason="needs chromium, playwright and axe-playwright-python")
def test_a_page_that_is_opened_as_a_file_can_be_searched(site):
    with chromium() as browser, tab(browser, f"file://{site}") as opened:
        opened.go("/docs/serving.html")
        opened.page.get_by_role("textbox", name="Search").press_sequentially("interleaving")
        opened.page.locator(".md-search-result__link", has_text="Interleaving").first.wait_for()
        assert opened.faults == []


@pytest.mark.skipif(not INSTALLED, reason="needs chromium, playwright and axe-playwright-python")
@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_pages_have_no_serious_fault_of_accessibility(url, size, scheme):
    with chromium() as browser, tab(browser, url, size, scheme) as opened:
        for page in ("/index.html", "/docs/serving.html", "/docs/models.html"):
            opened.go(page)
            opened.page.locator(".md-typeset__scrollwrap[tabindex]").first.wait_for()
            assert opened.serious() == []
            assert opened.overflow() == 0


def test_lists_after_a_paragraph_and_named_fences_are_read_as_github_does():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert hooks.with_blank_lines("text:\n- one\n- two\n  more\n1. x") == "text:\n\n- one\n- two\n  more\n1. x"
    assert hooks.with_blank_lines("```\ntext\n- one\n```") == "```\ntext\n- one\n```"
    assert hooks.NAMED_FENCE.sub(r"\1", '```json a-name\n{"a": 1}\n```') == '```json\n{"a": 1}\n```'
