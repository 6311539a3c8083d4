"""Reports in a real Chromium: opened from Models with the key of the tab, in a frame in which nothing runs."""

from pathlib import Path

import pytest

from export.cascading import make_cascade
from relevance.model.bundle import Bundle
from relevance.tasks import Task
from service.auth.key_file import entry, new_secret
from tests.browser import INSTALLED, TIMEOUT_MILLISECONDS, chromium, tab
from tests.cascades import two_bundles, write_dev
from tests.pipelines import labelled
from tests.serving import running
from tests.tiny import add_reports, tiny_bundle
from training.reports.data_page import render
from training.reports.measures import measure

pytestmark = pytest.mark.skipif(not INSTALLED, reason="needs chromium, playwright and axe-playwright-python")

GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 31)"}
HOSTILE = "<h1>Hostile</h1><script>parent.document.title = 'taken'</script><a href='http://127.0.0.1:1/'>away</a>"


def data_report():
    """Return the page of a real data report."""
    return render(measure({"train.jsonl": labelled(60), "dev.jsonl": labelled(24)}, Task.QC, tags=False))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with a data report and a page that tries what it may not, and its version."""
    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder, Task.QC, seed=1)
    return folder, add_reports(folder, {"data.html": data_report(), "test-set.html": HOSTILE}).version


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    """A service with that bundle, and a key for it."""
    secret, file = new_secret(), tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(entry("us", secret, ["score", "admin"]))
    with running({"qc": bundle[0]}, threads=1, api_keys=file) as process:
        yield process.wait_ready(), secret


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def open_models(opened, secret):
    """Show Models, with the key."""
    opened.go("/#/models")
    opened.page.get_by_label("Key", exact=True).fill(secret)
    opened.page.keyboard.press("Enter")


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_report_opens_from_models_with_the_key_of_the_tab(browser, served, size, scheme):
    from playwright.sync_api import expect

    url, secret = served
    with tab(browser, url, size, scheme) as opened:
        page = opened.page
        open_models(opened, secret)
        page.get_by_role("link", name="Data", exact=True).click()
        inside = page.frame_locator("iframe")
        inside.get_by_role("link", name="Lengths", exact=True).click()
        heading = inside.get_by_role("heading", name="Lengths", exact=True)
        expect(heading).to_be_in_viewport(timeout=TIMEOUT_MILLISECONDS)
        ground = inside.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert ground == GROUNDS[scheme]
        assert opened.serious() == []
        assert opened.overflow() == 0
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save").click()
        assert Path(saved.value.path()).read_text(encoding="utf-8") == data_report()
        page.get_by_role("link", name="Models").click()
        page.get_by_role("link", name="Test set").wait_for()
        assert opened.faults == []


def test_report_has_the_colours_that_were_chosen_on_the_page(browser, served, bundle):
    url, secret = served
    with tab(browser, url, scheme="null") as opened:  # emulated colours would be those of frames too
        page = opened.page
        open_models(opened, secret)
        page.get_by_role("button", name="Colours: system").click()
        page.get_by_role("button", name="Colours: light").click()
        page.get_by_role("link", name="Data", exact=True).click()
        body = page.frame_locator("iframe").locator("body")
        assert body.evaluate("body => getComputedStyle(body).backgroundColor") == GROUNDS["dark"]


def test_report_cannot_run_script_or_leave_its_frame(browser, served, bundle):
    url, secret = served
    with tab(browser, url) as opened:
        page = opened.page
        open_models(opened, secret)
        page.get_by_role("link", name="Test set").click()
        inside = page.frame_locator("iframe")
        inside.get_by_role("heading", name="Hostile").wait_for()
        assert page.title() == f"Test set, QC {bundle[1]} · relevance"
        assert any("Blocked script execution" in fault for fault in opened.faults)
        with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
            inside.get_by_role("link", name="away").click()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("qc/{version}/none.html", "expected one of data.html, test-set.html"),
        ("qi/{version}/data.html", "task 'qi' is not served here"),
        ("qc", "The address names no report"),
        ("qc/{version}/%E0%A4%A", "The address names no report"),
    ],
)
def test_wrong_address_is_answered_in_words(browser, served, bundle, path, words):
    url, secret = served
    with tab(browser, url) as opened:
        open_models(opened, secret)
        opened.page.get_by_role("link", name="Test set").wait_for()
        opened.go("/report#/" + path.format(version=bundle[1]))
        opened.page.get_by_role("alert").get_by_text(words).wait_for()


def test_tab_without_the_key_is_told_where_to_give_it(browser, served, bundle):
    with tab(browser, served[0]) as opened:
        opened.go(f"/report#/qc/{bundle[1]}/data.html")
        opened.page.get_by_role("alert").get_by_text("Give the tab such a key on Models").wait_for()
        assert opened.faults == []  # nothing was sent


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    """A cascade whose two models have reports, and both of their versions."""
    root = tmp_path_factory.mktemp("cascade")
    small, large = two_bundles(root)
    add_reports(small, {"test-set.html": "<h1>Of the small model</h1>"})
    add_reports(large, {"test-set.html": "<h1>Of the large model</h1>", "data.html": data_report()})
    make_cascade(small, large, root / "both", write_dev(root / "dev.jsonl", small, large), 0.002)
    return root / "both", [Bundle.open(folder).manifest.version for folder in (small, large)]


def looked_at(opened):
    """Return what is wrong with the look of the page."""
    return [*opened.serious(), *opened.faults, *([f"{opened.overflow()} px too wide"] if opened.overflow() else [])]


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_models_shows_the_reports_of_both_models_of_a_cascade(browser, cascade, size, scheme):
    folder, (small, large) = cascade
    with (
        running({"qc": folder}, threads=1, open_reports=True) as process,
        tab(browser, process.wait_ready(), size, scheme) as opened,
    ):
        page = opened.page
        opened.go("/#/models")
        page.get_by_role("heading", name=f"Small model: tiny-qc-0 {small}").wait_for()
        page.get_by_role("heading", name=f"Large model: tiny-qc-1 {large}").wait_for()
        assert page.get_by_role("link", name="Data", exact=True).count() == 1
        assert looked_at(opened) == []
        for place, which in enumerate(("small", "large")):
            page.get_by_role("link", name="Test set").nth(place).click()
            page.frame_locator("iframe").get_by_role("heading", name=f"Of the {which} model").wait_for()
            page.get_by_role("link", name="Models").click()
            page.get_by_role("heading", name="Reports").wait_for()
        assert opened.faults == []


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_without_keys_models_says_why_no_report_opens(browser, bundle, size, scheme):
    folder, version = bundle
    with running({"qc": folder}, threads=1) as process, tab(browser, process.wait_ready(), size, scheme) as opened:
        page = opened.page
        opened.go("/#/models")
        page.get_by_text("This service does not send them: they show rows").wait_for()
        assert page.get_by_text("Test set", exact=True).count() == 1
        assert page.get_by_role("link", name="Test set").count() == 0
        assert looked_at(opened) == []
        opened.go(f"/report#/qc/{version}/data.html")
        alert = page.get_by_role("alert")
        alert.get_by_text("no API keys are set; expected api_keys with a key of scope admin").wait_for()
        assert "Give the tab such a key" not in alert.inner_text()
