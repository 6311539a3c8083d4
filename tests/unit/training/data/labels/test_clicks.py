"""Click counts become targets, weights, votes and labels; impossible counts are named."""

import json

import numpy as np
import pytest

from relevance.errors import ConfigError, InputError
from relevance.tasks import Task
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import clean
from training.data.dataset import read_pairs, read_rows
from training.data.files.reading import ReadOptions
from training.data.labels.clicks import BetaPrior
from training.data.labels.weights import label_shares, label_votes, label_weights
from training.data.rows import BadRowsError
from training.data.votes.contradictions import Contradictions


def log_file(path, *counts, **columns):
    records = [
        {"id": n, "query": f"cup {n}", "candidate": "red cup", "clicks": clicks, "impressions": shown} | columns
        for n, (clicks, shown) in enumerate(counts)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path, clicks="1:9", **options):
    return read_pairs(path, Task.QI, reading=ReadOptions(clicks=clicks, **options)).rows


def test_rates_are_smoothed_by_the_prior_and_weigh_by_their_data(tmp_path):
    rows = read(log_file(tmp_path / "a.jsonl", (4, 10), (0, 90), ("1", "10.0"), (0, 0)))
    assert label_shares(rows) == [5 / 20, 1 / 100, 2 / 20, 1 / 10]
    assert label_weights(rows) == [0.5, 0.9, 0.5, 0]
    assert label_votes(rows) == [10, 90, 10, 1]
    assert [row.label for row in rows] == [1, 0, 1, 1]  # 1 from the prior's mean on
    assert (rows[2].extra["clicks"], rows[2].extra["impressions"]) == (1, 10)


def test_a_weight_of_the_file_is_multiplied_and_its_label_not_read(tmp_path):
    path = log_file(tmp_path / "a.jsonl", (4, 10), label="x", label_weight=0.5, label_share=1, label_votes=7)
    [row] = read(path)
    assert (row.label, row.extra["label_share"], row.extra["label_weight"]) == (1, 0.25, 0.25)
    assert row.extra["label_votes"] == 10


def test_the_fitted_prior_is_that_of_the_rows():
    rng = np.random.default_rng(0)
    shown = rng.integers(5, 200, 4000)
    clicks = rng.binomial(shown, rng.beta(2, 30, 4000))
    prior = BetaPrior.fitted(list(zip(clicks.tolist(), shown.tolist(), strict=True)))
    assert (prior.a, prior.b) == (pytest.approx(2, rel=0.1), pytest.approx(30, rel=0.1))


def test_equal_rates_fit_a_strong_prior():
    prior = BetaPrior.fitted([(10, 100)] * 50)
    assert prior.mean == pytest.approx(0.1, abs=1e-3)
    assert prior.a + prior.b > 1000


def test_single_impressions_fit_no_prior():
    with pytest.raises(
        InputError, match=r"no row has two impressions, .* expected a given prior, as in --clicks 0\.2:0\.8"
    ):
        BetaPrior.fitted([(0, 1)] * 8 + [(1, 1)] * 2)


def test_the_prior_is_fitted_to_a_file(tmp_path):
    rows = read(log_file(tmp_path / "a.jsonl", (1, 100), (30, 100), (0, 50), (9, 20)), "fit")
    assert [row.label for row in rows] == [0, 1, 0, 1]
    shares = label_shares(rows)
    assert shares[2] < shares[0] < shares[1] < shares[3] < 0.45
    assert shares[0] > 0.01


def test_counts_that_cannot_be_are_named_together(tmp_path):
    path = log_file(tmp_path / "a.jsonl", (1, 2), (3, 2), (-1, 5), (1.5, 5), (None, 3), (1, "many"))
    with pytest.raises(BadRowsError) as caught:
        read(path)
    message = str(caught.value)
    for line in (
        "row 2: clicks above impressions, clicks = 3; expected at most the 2 impressions",
        "row 3: not a count, clicks = -1; expected a whole number from 0",
        "row 4: not a count, clicks = 1.5; expected a whole number from 0",
        "row 5: not a count, clicks = None; expected a whole number from 0",
        "row 6: not a count, impressions = 'many'; expected a whole number from 0",
    ):
        assert line in message
    found = read_pairs(path, Task.QI, reading=ReadOptions(clicks="1:9"), bad_rows_file=tmp_path / "bad.jsonl")
    assert [row.id for row in found.rows] == ["0"]


@pytest.mark.parametrize(("cell", "count"), [("1000", 1000), ("1000.0", 1000), ("0.000", 0), ("7,0", 7), ("1e3", 1000)])
def test_a_count_may_be_written_as_a_decimal(tmp_path, cell, count):
    path = tmp_path / "a.tsv"
    path.write_text(f"query\tcandidate\tclicks\timpressions\na\tb\t0\t{cell}\n")
    assert read(path)[0].extra["impressions"] == count


@pytest.mark.parametrize("cell", ["1,000", "1.000", "12,345,678", "1 000", "1'000"])
def test_a_count_with_separators_of_thousands_is_a_bad_row(tmp_path, cell):
    path = tmp_path / "a.tsv"
    path.write_text(f"query\tcandidate\tclicks\timpressions\na\tb\t0\t{cell}\n")
    with pytest.raises(BadRowsError, match="expected a whole number from 0, without separators of thousands"):
        read(path)


def test_a_missing_column_is_named_once_with_its_option(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("query,candidate,clicks,page views\na,b,1,2\n")
    with pytest.raises(InputError, match=r"'impressions' is missing.*--column 'page views=impressions'"):
        read(path)
    assert read(path, columns={"page views": "impressions"})[0].extra["label_votes"] == 2


@pytest.mark.parametrize("clicks", [(0, 5), (5, 5)])
def test_a_prior_needs_impressions_with_and_without_a_click(tmp_path, clicks):
    with pytest.raises(InputError, match="expected impressions with and without a click"):
        read(log_file(tmp_path / "a.jsonl", clicks), "fit")


@pytest.mark.parametrize("text", ["", "1", "0:1", "-1:2", "a:b", "1:2:3"])
def test_priors_that_cannot_be(text):
    with pytest.raises(ConfigError, match="--clicks"):
        ReadOptions(clicks=text)


def test_grades_and_clicks_exclude_each_other():
    with pytest.raises(ConfigError, match="expected one of them"):
        ReadOptions(clicks="fit", grades="1:3")


def test_rows_without_counts_have_no_label_where_none_is_needed(tmp_path):
    path = log_file(tmp_path / "a.jsonl", (None, None), (1, 5))
    rows = read_rows(path, Task.QI, reading=ReadOptions(clicks="1:9"), require_labels=False).rows
    assert [row.label for row in rows] == [None, 1]


def test_merged_counts_keep_their_cut(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("query,candidate,clicks,impressions\nCup,red,3,10\ncup,red,1,10\ncup,blue,0,30\ncup ,blue,0,30\n")
    options = CleaningOptions(tags=Tags.OFF, contradictions=Contradictions.DROP)
    left, report = clean(read(path), Task.QI, options)
    assert report.votes.contradictory_pairs == 0  # an impression without a click is no vote against
    assert [row.label for row in left] == [1, 0]
    assert label_shares(left) == pytest.approx([(4 + 2) / 40, 1 / 40])
    assert label_votes(left) == [20, 60]
    assert [row.extra["label_cut"] for row in left] == pytest.approx([0.1, 0.1])
    assert not any("clicks" in row.extra for row in left)
