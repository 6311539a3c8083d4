import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.tasks import LabeledPair, Pair
from training.data.stored import spool
from training.data.stored.joins import matched, numbered, with_ids

KEYS = st.lists(st.sampled_from(["a", "b", "c", "half \ud83d", ""]), max_size=8)


@pytest.mark.parametrize("bucket_rows", [1, 32_768])
@given(keys=KEYS, wanted=KEYS)
def test_each_key_has_the_place_of_its_first_match(keys, wanted, bucket_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "BUCKET_ROWS", bucket_rows)
        found = matched(keys, len(keys), wanted)
    assert found.tolist() == [wanted.index(key) if key in wanted else -1 for key in keys]


def test_rows_come_in_the_order_of_their_ids(monkeypatch):
    monkeypatch.setattr(spool, "BUCKET_ROWS", 7)
    rows = [LabeledPair(Pair(f"q{at}", "c", "en"), 1, str(at)) for at in range(9000)]
    names = [str(at) for at in range(8999, -1, -3)]
    assert with_ids(rows, ["gone", *names]) == [rows[int(name)] for name in names]
    assert with_ids(rows, ["gone"]) == []


def test_keys_are_numbered_by_first_occurrence():
    keys = [f"q{at % 11000}" for at in range(20000, 0, -1)]
    numbers, different = numbered(keys)
    assert different.to_pylist() == list(dict.fromkeys(keys))
    assert [different[number].as_py() for number in numbers.tolist()] == keys
    assert len(numbered([])[0]) == len(numbered([])[1]) == 0
