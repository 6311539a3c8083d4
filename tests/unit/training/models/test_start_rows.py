import pytest

from training.models.head_start import start_rows


@pytest.mark.parametrize(("count", "chosen"), [(1, 1), (400, 400), (6000, 600), (14_752, 1475), (51_377, 2000)])
def test_head_starts_from_a_tenth_of_the_pairs_within_bounds(count, chosen):
    rows = start_rows(count)
    assert len(set(rows)) == len(rows) == chosen
    assert (rows[0], rows[-1]) == (0, count - 1)
