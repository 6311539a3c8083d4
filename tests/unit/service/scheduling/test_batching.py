from hypothesis import given
from hypothesis import strategies as st

from relevance.text.tokenization import TokenizedPair
from service.batch_shape import BatchShape
from service.scheduling.batching import form_batch
from service.scheduling.job import Job

lengths_of_requests = st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=30), min_size=1, max_size=6)
shapes = st.builds(BatchShape, st.integers(1, 300), st.sampled_from([(), (16, 32, 64)]), st.sampled_from([0, 40, 200]))


def pair(length: int, value: int = 0) -> TokenizedPair:
    return TokenizedPair([value] * length, [0] * length, truncated=False)


def jobs_of(requests: list[list[int]]) -> list[Job]:
    return [Job([pair(length) for length in lengths], on_done=lambda: None) for lengths in requests]


def batches_of(jobs: list[Job], shape: BatchShape):
    """All batches until nothing waits, the lead moving on after each."""
    batches = []
    while jobs:
        batches.append(form_batch(jobs, shape))
        jobs = [job for job in [*jobs[1:], jobs[0]] if job.waiting]
    return batches


def rows(batch, job=None) -> int:
    return sum(len(places) for each, places in batch.parts if job in (None, each))


@given(lengths_of_requests, shapes)
def test_batch_never_exceeds_token_budget_unless_one_pair_does(requests, shape):
    for batch in batches_of(jobs_of(requests), shape):
        assert batch.width >= max(map(len, batch.pairs))
        assert batch.rows == rows(batch) == len(batch.pairs)
        assert batch.rows * batch.width <= shape.max_tokens or batch.rows == 1


@given(lengths_of_requests, shapes)
def test_every_pair_is_batched_exactly_once(requests, shape):
    jobs = jobs_of(requests)
    batched = [(job, place) for batch in batches_of(jobs, shape) for job, places in batch.parts for place in places]
    expected = {(job, place) for job in jobs for place in range(len(job.pairs))}
    assert set(batched) == expected
    assert len(batched) == len(expected)


@given(lengths_of_requests, shapes)
def test_width_is_one_of_the_lengths_in_use(requests, shape):
    for batch in batches_of(jobs_of(requests), shape):
        assert batch.width == shape.padded_length(batch.width)
        assert not shape.lengths or batch.width in shape.lengths


@given(lengths_of_requests, st.integers(1, 300))
def test_without_free_tokens_only_other_requests_pad_to_the_leader(requests, budget):
    for batch in batches_of(jobs_of(requests), BatchShape(budget)):
        assert batch.width == max(map(len, batch.pairs))


def test_equal_requests_share_a_batch_equally():
    jobs = jobs_of([[8] * 50, [8] * 50])
    batch = form_batch(jobs, BatchShape(160))
    assert [rows(batch, job) for job in jobs] == [10, 10]


def test_a_batch_is_filled_where_others_leave_room():
    jobs = jobs_of([[8] * 3, [8] * 50, [20] * 5])  # the third is too long for the first one's batch
    assert form_batch(jobs, BatchShape(160)).rows == 20


def test_leader_rows_may_take_the_whole_batch():
    jobs = jobs_of([[8] * 50, [8] * 50])
    assert rows(form_batch(jobs, BatchShape(160), leader_rows=160), jobs[0]) == 20


def test_pairs_of_one_length_are_batched_together():
    batches = batches_of(jobs_of([[10, 50, 10, 50, 10, 50]]), BatchShape(150))
    assert [sorted(set(map(len, batch.pairs))) for batch in batches] == [[50], [10]]


def test_longer_pairs_join_where_a_run_costs_as_much_without_them():
    requests = [[10], [12], [40]]
    assert [batch.rows for batch in batches_of(jobs_of(requests), BatchShape(150))] == [1, 1, 1]
    assert [batch.rows for batch in batches_of(jobs_of(requests), BatchShape(150, free_tokens=10))] == [2, 1]
    assert [batch.rows for batch in batches_of(jobs_of(requests), BatchShape(150, free_tokens=100))] == [3]


def test_lengths_end_where_the_model_stops_reading():
    assert BatchShape(100, (16, 32, 64)).limited_to(40).lengths == (16, 32, 40)
    assert BatchShape(100, (16, 32)).limited_to(32).lengths == (16, 32)
    assert BatchShape(100).limited_to(32).lengths == ()
