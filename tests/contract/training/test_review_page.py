"""The review page in a real browser: one list with filters, decided by keyboard, kept, undone, compared and saved."""

import pytest

from relevance.tasks import LabeledPair, Pair, Task
from tests.browser import INSTALLED, chromium, tab
from training.reports.review import write_review
from training.selfvalidation.decisions import apply_review, read_decisions
from training.selfvalidation.grounds import Grounds, nearest_rows
from training.selfvalidation.judging import Suggestion
from training.selfvalidation.options import Flag
from training.selfvalidation.stage import FlaggedRow

pytestmark = pytest.mark.skipif(not INSTALLED, reason="needs chromium, playwright and axe-playwright-python")

GROUNDS = Grounds(0.5, (0.2, 0.8), 0.97, (Flag.CONFIDENT,))


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def rows_of(count):
    """Rows in two categories and two languages."""
    categories, languages = ("home,cups", "toys,cars"), ("en", "ja")
    return [LabeledPair(Pair(f"cup, {n}", categories[n % 2], languages[n // 2 % 2]), 1, f'{n},"') for n in range(count)]


def write(path, count):
    rows = rows_of(count)
    flagged = [FlaggedRow(row, 0.2, 0.8, (Flag.CONFIDENT,), Suggestion.DROP, GROUNDS) for row in rows]
    write_review(path, flagged, Task.QC, "Labels to review", near=nearest_rows(rows, rows))
    return path


def decisions(page):
    return page.eval_on_selector_all(".row", "rows => rows.map(row => row.dataset.decision)")


def shown(page):
    return page.eval_on_selector_all(".row:not([hidden])", "rows => rows.map(row => parseInt(row.dataset.id))")


def said(page):
    return page.locator("#count").inner_text()


def press(page, keys):
    for key in keys.split():
        page.keyboard.press(key)


def saved(page, path):
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    return path


def test_decisions_by_keyboard_survive_a_reload_and_can_be_undone(browser, tmp_path):
    first, other = write(tmp_path / "first.html", 5), write(tmp_path / "other.html", 3)
    with tab(browser, "file://") as opened:
        page = opened.page
        opened.go(str(first))
        press(page, "k ArrowDown f d")
        assert decisions(page) == ["keep", "", "flip", "drop", ""]
        page.reload()
        assert decisions(page) == ["keep", "", "flip", "drop", ""]
        assert "3 of 5 decided, kept in this browser" in said(page)
        assert page.locator("#progress").evaluate("bar => [bar.value, bar.max]") == [3, 5]
        press(page, "ArrowUp n d u")
        assert decisions(page) == ["keep", "", "flip", "drop", ""]
        page.click(".row.current [data-choice=flip]")
        page.click("#undo")
        assert decisions(page) == ["keep", "", "flip", "drop", ""]
        opened.go(str(other))
        assert decisions(page) == [""] * 3
        assert opened.faults == []


def test_filters_leave_one_list_of_what_fits(browser, tmp_path):
    with tab(browser, "file://") as opened:
        page = opened.page
        opened.go(str(write(tmp_path / "r.html", 8)))
        page.select_option("[data-filter=category]", "toys")
        assert shown(page) == [1, 3, 5, 7]
        page.select_option("[data-filter=language]", "ja")
        assert shown(page) == [3, 7]
        page.locator("h1").click()
        press(page, "d")
        page.select_option("[data-filter=state]", "open")
        assert shown(page) == [7]
        page.select_option("[data-filter=category]", "home")
        page.select_option("[data-filter=state]", "decided")
        assert shown(page) == []
        assert page.locator("#none").is_visible()
        page.click("#undo")
        assert shown(page) == list(range(8)), "the row that was undone is in sight"


def test_two_annotators_decide_blind_and_compare_and_the_pipeline_reads_it_back(browser, tmp_path):
    path = write(tmp_path / "r.html", 4)
    with tab(browser, "file://") as opened:
        page = opened.page
        opened.go(str(path))
        page.fill("#annotator", "ann")
        page.locator("h1").click()
        press(page, "d k f")
        of_ann = saved(page, tmp_path / "ann.csv")
    with tab(browser, "file://") as opened:
        page = opened.page
        opened.go(str(path))
        page.fill("#annotator", "bob")
        page.locator("h1").click()
        press(page, "d d")
        page.set_input_files("#load", of_ann)
        page.wait_for_function("document.getElementById('count').textContent.includes('differ')")
        assert "2 of 4 decided, kept in this browser; annotators differ on 1" in said(page)
        assert [each for each in page.locator(".other").all_inner_texts() if each] == ["annotator ann: keep"]
        page.select_option("[data-filter=state]", "differ")
        assert shown(page) == [1]
        both = saved(page, tmp_path / "both.csv")
        assert opened.faults == []
    rows = rows_of(4)
    left, report = apply_review(rows, read_decisions(both), both)
    assert report.decisions == {"disputed": 1, "drop": 1, "flip": 1, "undecided": 1}
    assert [(row.id, row.label) for row in left] == [('1,"', 1), ('2,"', 0), ('3,"', 1)]
    assert apply_review(rows, read_decisions(of_ann) + read_decisions(both), both)[1] == report


def test_a_csv_without_the_columns_is_named(browser, tmp_path):
    (tmp_path / "other.csv").write_text("name,value\na,b\n")
    with tab(browser, "file://") as opened:
        opened.go(str(write(tmp_path / "r.html", 2)))
        opened.page.set_input_files("#load", tmp_path / "other.csv")
        opened.page.wait_for_function("document.getElementById('count').textContent.includes('no columns id and')")


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("narrow", "dark")])
def test_the_page_has_no_serious_fault_and_fits_the_window(browser, tmp_path, size, scheme):
    with tab(browser, "file://", size, scheme) as opened:
        opened.go(str(write(tmp_path / "r.html", 3)))
        press(opened.page, "d")
        assert opened.serious() == []
        assert opened.overflow() == 0
        assert opened.faults == []
