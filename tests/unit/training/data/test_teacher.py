"""A teacher's file: logits or scores by id; what is bad or lacking is named."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevance.errors import InputError
from training.data.teacher import teacher_logits

RECORDS = [{"id": 1, "logit": 2.5}, {"id": "b", "logit": -1.0}, {"id": "further", "logit": 0.0}]


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.parquet"])
def test_logits_of_every_format(tmp_path, name):
    path = tmp_path / name
    if name == "t.jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    elif name == "t.parquet":
        pq.write_table(pa.Table.from_pylist([record | {"id": str(record["id"])} for record in RECORDS]), path)
    else:
        comma = "," if name == "t.csv" else "\t"
        path.write_text(
            "".join(f"{id}{comma}{logit}\n" for id, logit in [("id", "logit"), *(r.values() for r in RECORDS)])
        )
    assert teacher_logits(path, ["b", "1", "b"], tmp_path / "lacking") == [-1.0, 2.5, -1.0]


def test_scores_become_logits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,score\na,0.5\nb,0.9\nc,0\nd,1\n")
    assert teacher_logits(path, list("abcd"), tmp_path / "lacking") == pytest.approx([0, math.log(9), -16, 16])


def test_all_rows_that_it_lacks_are_named(tmp_path):
    path, lacking = tmp_path / "t.csv", tmp_path / "lacking"
    path.write_text("id,score\n7,0.5\n")
    with pytest.raises(
        InputError, match=r"lacks 30 of 31 training rows; all their ids are in .*: 8, 9, .* and 10 more"
    ):
        teacher_logits(path, [str(n) for n in range(7, 38)], lacking)
    assert lacking.read_text().split() == [str(n) for n in range(8, 38)]


def test_bad_rows_are_named_together(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,score\na,0.5\nb,1.5\nc,high\n,0.5\na,0.6\nd,\n")
    with pytest.raises(InputError) as caught:
        teacher_logits(path, ["a"], tmp_path / "lacking")
    message = str(caught.value)
    assert "5 bad rows" in message
    for row, what in ((3, "'1.5'"), (4, "'high'"), (5, "''"), (6, "another logit before, 0"), (7, "'d'")):
        assert any(f"row {row}: " in line and what in line for line in message.splitlines()), row


def test_a_file_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,label\na,1\n")
    with pytest.raises(InputError, match="expected 'id', and 'logit' or 'score'"):
        teacher_logits(path, ["a"], tmp_path / "lacking")
