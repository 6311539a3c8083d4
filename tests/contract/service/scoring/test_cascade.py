"""A cascade behind HTTP is one model: its scores, caches, deadlines, partial answers, metrics and role changes."""

import asyncio
import shutil
import threading

import numpy as np
import pytest

from relevance.errors import BundleError
from relevance.model.bundle import Bundle, Golden, write_bundle_files
from relevance.scorer import Scorer
from relevance.tasks import Task
from service.lifecycle.bundle_watcher import mark_of
from service.scheduling.job import Priority
from service.scoring.request_context import RequestContext
from tests.cascades import some_pairs, tiny_cascade
from tests.serving import in_process

PAIRS = some_pairs(60, seed=5)
BODY = {
    "task": "qc",
    "pairs": [{"query": p.query, "candidate": p.candidate, "language": p.language} for p in PAIRS],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    tiny_cascade(folder)
    return folder


@pytest.fixture(scope="module")
def expected(root):
    return Scorer.open(root / "both", device="cpu", threads=1).score(PAIRS)


def serve(root, scenario, **settings):
    return in_process({Task.QC: root / "both"}, scenario, device="cpu", **settings)


def counted(service, name, **labels):
    """Return the sum of a metric's series."""
    service.refresh_metrics()
    samples = [sample for metric in service.metrics.registry.collect() for sample in metric.samples]
    return sum(s.value for s in samples if s.name == f"relevance_{name}" and labels.items() <= s.labels.items())


def passed_on(root, pairs):
    """Return how many pairs the large model answers."""
    small, large, both = (Scorer.open(root / name, device="cpu", threads=1) for name in ("small", "large", "both"))
    same = np.isclose(both.score(pairs).scores, large.score(pairs).scores, atol=1e-6)
    assert not np.isclose(small.score(pairs).scores, large.score(pairs).scores, atol=1e-6).any()
    return int(same.sum())


def test_scores_over_http_are_those_of_the_scorer(root, expected):
    async def scenario(client, service):
        answer = (await client.post("/v1/score", json=BODY)).json()
        return answer, (await client.get("/v1/models")).json()

    answer, models = serve(root, scenario)
    np.testing.assert_allclose([each["score"] for each in answer["scores"]], expected.scores, atol=1e-5)
    assert [each["label"] for each in answer["scores"]] == expected.labels.tolist()
    version = Bundle.open(root / "both").manifest.version
    assert answer["model"] == {"name": "tiny-qc-1-cascade", "version": version}
    assert version in str(models)


def test_metrics_count_the_pairs_of_each_stage_and_its_time(root):
    async def scenario(client, service):
        before = counted(service, "cascade_pairs_total", task="qc")
        await client.post("/v1/score", json=BODY)
        found = {stage: counted(service, "cascade_pairs_total", stage=stage) for stage in ("small", "large")}
        of_large = "cascade_stage_duration_seconds_count", {"task": "qc", "stage": "large"}
        parts = {part: counted(service, of_large[0], part=part, **of_large[1]) for part in ("queue", "tokenize", "run")}
        return before, found, parts, counted(service, "batch_pairs_sum")

    before, found, parts, run = serve(root, scenario)
    passed = passed_on(root, PAIRS)
    assert 0 < passed < len(PAIRS)
    assert (before, found) == (0, {"small": len(PAIRS) - passed, "large": passed})
    assert parts == {"queue": 1, "tokenize": 1, "run": 1}
    assert run == len(PAIRS) + passed


def test_passed_on_pairs_of_several_requests_join_one_batch_of_the_large_model(root, expected):
    async def scenario(client, service):
        small, large = service.models[Task.QC].stages
        go_on, runs, run = threading.Event(), [], large.scheduler._health._run

        def hold(pairs, width):
            go_on.wait(60)
            runs.append(len(pairs))
            return run(pairs, width)

        large.scheduler._health._run = hold
        first = asyncio.create_task(client.post("/v1/score", json=BODY))
        while not large.scheduler.queued_tokens:
            await asyncio.sleep(0.01)
        waiting = large.scheduler.queued_tokens
        others = [asyncio.create_task(client.post("/v1/score", json=BODY)) for _ in range(2)]
        while large.scheduler.queued_tokens < 3 * waiting or small.scheduler.queued_tokens:
            await asyncio.sleep(0.01)
        go_on.set()
        answers = [await each for each in (first, *others)]
        return [[s["score"] for s in answer.json()["scores"]] for answer in answers], runs

    scores, runs = serve(root, scenario, concurrent_runs=1, target_latency_ms=60_000)
    for each in scores:
        np.testing.assert_allclose(each, expected.scores, atol=1e-5)
    passed = passed_on(root, PAIRS)
    assert sum(runs) == 3 * passed
    assert max(runs) > passed


def test_known_pairs_are_not_scored_again_by_any_stage(root, expected):
    async def scenario(client, service):
        answers = [(await client.post("/v1/score", json=BODY)).json() for _ in range(2)]
        return answers, counted(service, "cascade_pairs_total"), counted(service, "cache_lookups_total", cache="scores")

    answers, pairs, lookups = serve(root, scenario, score_cache_pairs=1000)
    for answer in answers:
        np.testing.assert_allclose([each["score"] for each in answer["scores"]], expected.scores, atol=1e-5)
    assert pairs == len(set(PAIRS))
    assert lookups == 2 * len(set(PAIRS))


def test_deadline_that_passes_in_the_large_stage_is_no_answer_of_the_small_one(root):
    async def scenario(client, service):
        model, go_on = service.models[Task.QC], threading.Event()
        large, run = model.stages[1].scheduler, model.stages[1].scheduler._health._run
        large._health._run = lambda pairs, width: (go_on.wait(60), run(pairs, width))[1]
        work = asyncio.create_task(client.post("/v1/score", json=BODY, headers={"X-Request-Timeout-Ms": "400"}))
        answer = await work
        go_on.set()
        return answer, counted(service, "dropped_requests_total", why="expired"), large.queued_tokens

    answer, dropped, queued = serve(root, scenario)
    assert (answer.status_code, answer.json()["reason"], dropped, queued) == (504, "deadline", 1, 0)


def test_partial_answer_holds_the_first_pairs_whole(root, expected):
    async def scenario(client, service):
        return (await client.post("/v1/score", json=BODY | {"partial": True})).json()

    answer = serve(root, scenario)
    scored = [each["score"] for each in answer["scores"] if each is not None]
    np.testing.assert_allclose(scored, expected.scores[: len(scored)], atol=1e-5)
    assert answer["unscored"] == list(range(len(scored), len(PAIRS)))


def test_bulk_work_is_scored_by_both_stages(root, expected):
    async def scenario(client, service):
        return await service.models[Task.QC].score(PAIRS, RequestContext(priority=Priority.BULK))

    found = serve(root, scenario)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert len(found.unscored) == 0


def test_cascade_takes_the_place_of_its_large_model_and_back(root):
    async def scenario(client, service):
        rollout, versions = service.rollouts[Task.QC], []
        for change in (None, root / "both", None):
            if change is not None:
                await rollout.switch(change)
            elif versions:
                rollout.roll_back()
            await client.post("/v1/score", json=BODY)
            versions.append(service.models[Task.QC].manifest.version)
        return versions, rollout.previous.stages[0].engine.tokenizer is rollout.active.stages[0].engine.tokenizer

    versions, shares = in_process({Task.QC: root / "large"}, scenario, device="cpu")
    large, both = (Bundle.open(root / name).manifest.version for name in ("large", "both"))
    assert versions == [large, both, large]
    assert shares  # equal tokenizers are read once


def test_other_golden_logits_are_refused_before_a_thread_starts(root, tmp_path):
    folder = shutil.copytree(root / "both", tmp_path / "both")
    bundle = Bundle.open(folder)
    golden = [Golden(**(each.model_dump() | {"logit": each.logit + 1})) for each in bundle.golden]
    write_bundle_files(folder, bundle.manifest, golden)
    with pytest.raises(BundleError, match="golden pair 1 scored"):
        Scorer.open(folder)
    threads = threading.active_count()

    async def scenario(client, service):
        return service.obstacle

    assert "golden pair 1 scored" in in_process({Task.QC: folder}, scenario, device="cpu")
    assert threading.active_count() <= threads + 1


def test_watched_cascade_has_a_mark_that_changes_with_any_of_its_files(root, tmp_path):
    folder = shutil.copytree(root / "both", tmp_path / "both")
    before = mark_of(folder)
    (folder / "large/model.onnx").write_bytes(b"another")
    assert before is not None
    assert mark_of(folder) not in (None, before)
    (folder / "small/tokenizer.json").unlink()
    assert mark_of(folder) is None
