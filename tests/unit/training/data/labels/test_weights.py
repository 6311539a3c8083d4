"""Targets, weights and votes of rows, as files have them."""

import json
import logging

import pytest

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Pair, Task
from training.data.dataset import read_pairs
from training.data.labels.weights import (
    has_other_share,
    label_shares,
    label_votes,
    label_weights,
    share_column,
    weight_column,
)
from training.data.stored.rows import stored


@pytest.mark.parametrize(
    ("label", "extra", "is_other"),
    [
        (1, {"label_share": 0.4}, True),
        (0, {"label_share": "0,6"}, True),
        (1, {"label_share": 0.5}, False),  # a tie may be either
        (0, {"label_share": 0.5}, False),
        (1, {"label_share": 0.06, "label_cut": 0.05}, False),
        (0, {"label_share": 0.06, "label_cut": 0.05}, True),
        (1, {"label_share": "-"}, False),  # no number, which training names
        (None, {"label_share": 0.4}, False),
        (1, {}, False),
    ],
)
def test_a_share_may_be_on_the_side_of_the_other_label(label, extra, is_other):
    assert has_other_share(label, extra) is is_other


def test_shares_against_the_label_are_counted_when_a_file_is_read(tmp_path, caplog):
    rows = [{"query": "cup", "candidate": f"a,{n}", "label": n % 2, "label_share": 0.1} for n in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level(logging.WARNING):
        read_pairs(tmp_path / "a.jsonl", Task.QC)
    assert "3 rows have a label_share on the other side of their label" in caplog.text


def test_votes_with_separators_of_thousands_are_refused():
    row = LabeledPair(Pair("cup", "a"), 1, "7", {"label_votes": "1,000"})
    with pytest.raises(InputError, match=r"1 rows have a label_votes out of range \(first: id '7', '1,000'\)"):
        label_votes([row])


def extras(count):
    some = ({}, {"label_weight": 0.3}, {"label_share": "0,7", "label_weight": None}, {"note": "label_share"})
    return [LabeledPair(Pair(f"cup {n}", "a"), n % 2, str(n), dict(some[n % 4])) for n in range(count)]


@pytest.mark.parametrize("hold", [list, stored])
def test_columns_have_the_values_of_rows(hold):
    rows = extras(9000)
    assert weight_column(hold(rows)).tolist() == label_weights(rows)
    assert share_column(hold(rows)).tolist() == label_shares(rows)


@pytest.mark.parametrize("hold", [list, stored])
def test_a_column_names_the_rows_that_are_out_of_range_in_all_batches(hold):
    rows = extras(9000)
    for at in (17, 18, 8999):
        rows[at].extra["label_weight"] = 1.5
    with pytest.raises(InputError, match=r"3 rows have a label_weight out of range \(first: id '17', 1.5\)"):
        weight_column(hold(rows))
