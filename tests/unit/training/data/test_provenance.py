"""Fingerprints of rows: equal only where training comes to the same."""

from dataclasses import replace

import pytest

from relevance.tasks import LabeledPair, Pair
from training.data.provenance import fingerprint

ROW = LabeledPair(Pair("cup", "home,cups", "en"), 1, "7", {"source_id": "3", "label_share": 0.8, "note": "a"})


def of(*rows):
    return fingerprint("recipe", rows=[rows])


@pytest.mark.parametrize(
    "other",
    [
        replace(ROW, pair=replace(ROW.pair, query="mug")),
        replace(ROW, pair=replace(ROW.pair, language="de")),
        replace(ROW, label=0),
        replace(ROW, id="8"),  # another logit of a teacher
        replace(ROW, extra=ROW.extra | {"source_id": "4"}),  # another group of copies
        replace(ROW, extra=ROW.extra | {"merged_source_ids": ["5"]}),
        replace(ROW, extra=ROW.extra | {"merged_ids": ["3"]}),
        replace(ROW, extra=ROW.extra | {"label_share": 0.7}),
        replace(ROW, extra=ROW.extra | {"label_weight": 0.7}),
    ],
)
def test_what_training_reads_of_a_row_counts(other):
    assert of(ROW) != of(other)


def test_what_training_does_not_read_is_left_out():
    assert of(ROW) == of(replace(ROW, extra=ROW.extra | {"note": "b"}))
    assert of(ROW, ROW) != of(ROW)
