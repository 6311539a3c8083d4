import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task
from training.commands.rows.data import report as report_command
from training.data.splits import write_pairs
from training.reports.charts import Bar, bar_chart, histogram
from training.reports.data_page import render
from training.reports.density import SEGMENT, density
from training.reports.figures import DataReport
from training.reports.measures import measure
from training.text.scripts import language_scripts, scripts_of

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def row(
    query: str, candidate: str = "shoes,boots", label: int = 1, language: str = "en", row_id: str = "1"
) -> LabeledPair:
    return LabeledPair(Pair(query, candidate, language), label, row_id)


ROWS = [
    row("red boots", row_id="1"),
    row("RED  boots", label=0, row_id="2"),
    row("botas rojas", "shoes,boots,tall boots", language="es", row_id="3"),
    row("botas rojas", "shoes,boots,tall boots", language="es", row_id="4"),
    row("靴 ブーツ", "home,kitchen,dining & bar", label=0, language="ja", row_id="5"),
]


class Page(HTMLParser):
    """Reads a page as a browser does: its tags, their attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def measured() -> DataReport:
    return measure({"train": ROWS, "dev": [row("Red Boots", language="de"), row("hat")]}, Task.QC, tags=False)


def test_figures_count_rows_positives_and_different_texts(measured: DataReport) -> None:
    train = measured.files[0]
    assert (train.rows, train.positive, train.queries, train.candidates) == (5, 3, 3, 3)
    assert {name: (found.rows, found.positive) for name, found in train.languages.items()} == {
        "en": (2, 1),
        "es": (2, 2),
        "ja": (1, 0),
    }
    assert train.depths == {2: 2, 3: 1}
    assert (train.votes.merged_rows, train.votes.contradictory_pairs) == (2, 1)
    assert train.languages["ja"].scripts == {"KATAKANA": 3, "HAN": 1}
    assert sum(train.query_lengths.counts) == 4


def test_leaks_name_queries_of_both_files(measured: DataReport) -> None:
    [leak] = measured.leaks
    assert (leak.first, leak.second, leak.queries, leak.first_rows, leak.second_rows) == ("train", "dev", 1, 2, 1)
    assert leak.examples == ("red boots",)


def test_titles_have_no_depth() -> None:
    assert measure({"qi": ROWS}, Task.QI, tags=False).files[0].depths == {}


def test_density_is_different_features_by_all_features() -> None:
    found = density(["red boots", "RED  boots", "red hat."])
    assert (found.texts, found.features, found.different, found.ratio) == (2, 4, 3, 0.75)
    assert found.segmental is None
    assert density(["靴下屋"], "ja").features == 2


def test_segmental_density_compares_sets_of_unlike_sizes() -> None:
    small = density([f"word{n % 200} other{n}" for n in range(5 * SEGMENT)])
    large = density([f"word{n % 200} other{n}" for n in range(50 * SEGMENT)])
    assert small.segmental is not None
    assert large.segmental is not None
    assert small.ratio - large.ratio > 0.03
    assert abs(small.segmental - large.segmental) < 0.02


def test_data_is_escaped_wherever_it_is_shown() -> None:
    rows = [
        row(HOSTILE, HOSTILE, language=HOSTILE, row_id=HOSTILE),
        row(HOSTILE, HOSTILE, label=0, language=HOSTILE, row_id="2"),
        row("сапоги", language="en"),
    ]
    page = render(measure({HOSTILE: rows, "other": rows}, Task.QC, tags=False))
    found = Page(page)
    assert not {"script", "img"} & {tag for tag, _ in found.tags}
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert HOSTILE in found.text
    assert found.open == []


def test_page_asks_for_nothing_outside_itself(measured: DataReport) -> None:
    page = render(measured)
    found = Page(page)
    loading = {"link", "script", "img", "iframe", "object", "embed", "source", "base"}
    assert not loading & {tag for tag, _ in found.tags}
    assert all(attributes["href"].startswith("#") for tag, attributes in found.tags if tag == "a")
    assert not re.search(r"url\(|@import|https?://", page)
    assert any("default-src 'none'" in (a.get("content") or "") for tag, a in found.tags if tag == "meta")


def test_every_plot_has_a_title_and_a_table_beside_it(measured: DataReport) -> None:
    found = Page(render(measured))
    tags = [tag for tag, _ in found.tags]
    assert tags.count("svg") == tags.count("title") - 1 > 0
    assert tags.count("table") >= tags.count("svg")
    targets = {attributes["href"][1:] for tag, attributes in found.tags if tag == "a"}
    assert targets <= {attributes.get("id") for tag, attributes in found.tags if tag == "section"}


def test_same_rows_give_the_same_page(measured: DataReport) -> None:
    again = measure({"train": ROWS, "dev": [row("Red Boots", language="de"), row("hat")]}, Task.QC, tags=False)
    assert render(again) == render(measured)


def boxes(chart: str) -> list[tuple[float, float]]:
    """Return width and height of each bar of the first series' colour or the second's."""
    found = []
    for path in re.findall(r'd="([^"]*)" style="fill: var\(--s\d\)"', chart):
        numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
        found.append((max(numbers[::2]) - min(numbers[::2]), max(numbers[1::2]) - min(numbers[1::2])))
    return found


def test_bars_are_as_long_as_their_values() -> None:
    widths = [width for width, _ in boxes(bar_chart("t", [Bar("a", (3.0, 1.0), "x"), Bar("b", (2.0,), "y")]))]
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.2)
    assert widths[2] == pytest.approx(2 * widths[1], abs=0.2)


def test_histogram_of_nothing_is_flat() -> None:
    assert [height for _, height in boxes(histogram("t", [0, 0], ["0", "1"]))] == [0, 0]


@pytest.mark.parametrize("label", ["$x^2$", "a\nb", "\ud800", "靴", "\x00", HOSTILE])
def test_labels_are_taken_literally_whatever_they_hold(label: str) -> None:
    chart = bar_chart(label, [Bar(label, (1.0,), label)])
    assert not {"script", "img"} & {tag for tag, _ in Page(chart).tags}
    if label == "$x^2$":
        assert Page(chart).text.count(label) == 3


def test_scripts_are_known_by_character_and_language() -> None:
    assert scripts_of("ＡＢ ｶﾅ 漢字 7!") == {"LATIN": 2, "KATAKANA": 2, "HAN": 2}
    assert language_scripts("ja") == {"HAN", "HIRAGANA", "KATAKANA"}
    assert language_scripts("xx") == frozenset()


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(report_command)
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train_QC.txt"
    write_pairs(path, ROWS, Task.QC)
    return path


def test_command_writes_the_page_and_prints_figures(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "report.html"
    figures = json.loads(run(file, "--task", "qc", "--no-tags", "--json", "--out", out))
    assert figures["files"][0]["name"] == "train_QC.txt"
    assert out.read_text(encoding="utf-8") == render(DataReport.model_validate(figures))


def test_command_tells_files_of_one_name_apart(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b" / file.name
    write_pairs(other, ROWS[:2], Task.QC)
    figures = json.loads(run(file, other, "--task", "qc", "--no-tags", "--json"))
    assert [f["name"] for f in figures["files"]] == [f"{tmp_path.name}/{file.name}", f"b/{file.name}"]


def test_command_refuses_to_replace_a_page_or_read_a_file_twice(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        run(file, "--task", "qc", "--no-tags", "--out", out)
    with pytest.raises(InputError, match="given twice"):
        run(file, file, "--task", "qc", "--no-tags", "--json")
    assert out.read_text() == "mine"


def test_wrong_tags_are_shown_escaped() -> None:
    pytest.importorskip("lingua")
    rows = [
        row("nightmare before christmas clothes", language="es"),
        row("funda para el teléfono", language="es"),
        row("hat"),
    ]
    found = measure({"dev": [*rows, row("сапоги <&>")]}, Task.QC)
    tags = found.files[0].tags
    assert tags is not None
    assert tags.disagreements == {"es -> en": 1, "en -> unk": 1}
    assert "nightmare before christmas clothes" in Page(render(found)).text
    assert "сапоги &lt;&amp;&gt;" in render(found)


def test_counts_agree_with_their_nouns():
    page = " ".join(render(measure({"a": ROWS}, Task.QC, tags=False)).split())
    assert "a: 2 repeated rows; 1 pair has both labels (2 votes, 1 tie)." in page
    one = " ".join(render(measure({"a": ROWS[:1]}, Task.QC, tags=False)).split())
    assert "Task QC, 1 row<" in one
