"""Changes of a task's models, in one process: roles, refusals, and when a model that was replaced is closed."""

import asyncio
import gc
import shutil
import threading
import time
import weakref

import pytest

from relevance.errors import BundleError
from relevance.model.bundle import Bundle, write_bundle_files
from relevance.tasks import Pair, Task
from relevance.text.tokenization import PairTokenizer, TokenizedPair
from service.errors import BundleRefusedError, ConflictError, DeadlineError, ScoringError
from service.lifecycle.challenger import Mode, in_share
from service.runtime.session import Engine
from service.scoring.request_context import RequestContext
from tests.serving import in_process
from tests.tiny import tiny_bundle

PAIRS = [Pair("shoes", "Shoes", "en")]
TOKENS = TokenizedPair([0, 5, 2], [0, 0, 0], truncated=False)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The folders of three bundles that score differently, and their versions."""
    root = tmp_path_factory.mktemp("bundles")
    return [(root / str(seed), tiny_bundle(root / str(seed), seed=seed).version) for seed in (0, 1, 2)]


def with_rollout(bundles, scenario, **settings):
    """Run a scenario on the rollout of a service that began with the first bundle."""

    async def run(client, service):
        return await scenario(service.rollouts[Task.QC], service)

    return in_process({Task.QC: bundles[0][0]}, run, **settings)


def versions(rollout):
    """The versions of active, previous and challenger."""
    models = rollout.active, rollout.previous, rollout.challenger.model if rollout.challenger else None
    return [model and model.manifest.version for model in models]


def series(service, name, **labels):
    """The labels and values of a metric's series."""
    metrics = [sample for metric in service.metrics.registry.collect() for sample in metric.samples]
    return [(s.labels, s.value) for s in metrics if s.name == name and labels.items() <= s.labels.items()]


def test_switch_keeps_the_old_model_and_roll_back_goes_there_and_back(bundles):
    async def scenario(rollout, service):
        found = [versions(rollout)]
        await rollout.switch(bundles[1][0])
        found.append(versions(rollout))
        for _ in range(2):
            rollout.roll_back()
            found.append(versions(rollout))
        return found, service.models[Task.QC].manifest.version

    found, served = with_rollout(bundles, scenario)
    (_, a), (_, b), _ = bundles
    assert found == [[a, None, None], [b, a, None], [a, b, None], [b, a, None]]
    assert served == b


def test_model_older_than_the_previous_is_closed_and_its_memory_freed(bundles):
    async def scenario(rollout, service):
        first, engine = weakref.ref(rollout.active.stages[0].scheduler), weakref.ref(rollout.active.stages[0].engine)
        gc.disable()  # it must not take the collector to free a session
        try:
            await rollout.switch(bundles[1][0])
            kept = first().alive
            await rollout.switch(bundles[2][0])
            return kept, await closed_and_freed(rollout, engine)
        finally:
            gc.enable()

    assert with_rollout(bundles, scenario) == (True, None)


async def closed_and_freed(rollout, reference):
    """Wait until replaced models are closed; return None once the object is gone, the object after a minute.

    A run and its thread may be in progress.
    """
    while rollout._closing:
        await asyncio.sleep(0.001)
    until = time.monotonic() + 60
    while reference() is not None and time.monotonic() < until:
        await asyncio.sleep(0.001)
    return reference()


def test_memory_of_a_model_that_has_failed_is_freed_too(bundles):
    released = threading.Event()

    def fail(pairs, width):
        released.wait(120)
        raise ValueError("no run")

    async def scenario(rollout, service):
        engine = weakref.ref(rollout.active.stages[0].engine)
        gc.disable()
        try:
            rollout.active.stages[0].scheduler._health._run = fail
            with pytest.raises(DeadlineError):
                await asyncio.create_task(
                    rollout.active.stages[0].scheduler.score([TOKENS], deadline=time.monotonic() + 0.01)
                )
            released.set()
            with pytest.raises(ScoringError):
                await rollout.active.score(PAIRS, RequestContext())
            for folder, _ in bundles[1:]:
                await rollout.switch(folder)
            return await closed_and_freed(rollout, engine)
        finally:
            gc.enable()

    assert with_rollout(bundles, scenario) is None


def test_replaced_model_is_closed_only_when_its_last_request_is_done(bundles):
    async def scenario(rollout, service):
        first = rollout.active
        with first.leases.acquire():
            for folder, _ in bundles[1:]:
                await rollout.switch(folder)
            await asyncio.sleep(0.05)
            scored = await first.score(PAIRS, RequestContext())
        while rollout._closing:
            await asyncio.sleep(0.001)
        counted = sum(value for _, value in series(service, "relevance_scores_total"))
        return len(scored.labels), first.alive, counted

    assert with_rollout(bundles, scenario) == (1, False, 1)


def test_previous_is_not_kept_where_the_operator_says_so(bundles):
    async def scenario(rollout, service):
        await rollout.switch(bundles[1][0])
        with pytest.raises(ConflictError, match="no previous model"):
            rollout.roll_back()
        return versions(rollout)

    assert with_rollout(bundles, scenario, keep_previous=False) == [bundles[1][1], None, None]


def flipped(folder):
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def wrong_golden(folder):
    bundle = Bundle.open(folder)
    golden = [each.model_copy(update={"logit": each.logit + 1}) for each in bundle.golden]
    write_bundle_files(folder, bundle.manifest, golden)


def other_task(folder):
    shutil.rmtree(folder)
    tiny_bundle(folder, Task.QI)


def no_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"no": "tokenizer"}')
    bundle = Bundle(folder, Bundle.open(folder.parent / "whole").manifest, [])
    write_bundle_files(folder, bundle.manifest, bundle.golden)


FAULTS = {
    flipped: "model.onnx has sha256",
    wrong_golden: "golden pair 1 scored",
    other_task: "its task is 'qi'",
    no_tokenizer: "expected a tokenizer.json",
    shutil.rmtree: "no manifest.json",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("mode", ["switch", Mode.SHADOW])
def test_bad_bundle_leaves_everything_as_it_was(bundles, tmp_path, fault, mode):
    for name in ("bad", "whole"):
        shutil.copytree(bundles[1][0], tmp_path / name)
    bad = tmp_path / "bad"
    fault(bad)

    async def scenario(rollout, service):
        with pytest.raises(BundleRefusedError, match=FAULTS[fault]):
            await (rollout.switch(bad) if mode == "switch" else rollout.try_out(bad, mode, 1.0))
        refused = series(service, "relevance_model_changes_total", result="refused")
        return versions(rollout), rollout.change, rollout.refusal.bundle, refused[0][1]

    assert with_rollout(bundles, scenario) == ([bundles[0][1], None, None], None, bad, 1)


def test_only_one_change_at_a_time(bundles):
    async def scenario(rollout, service):
        first = asyncio.create_task(rollout.switch(bundles[1][0]))
        await asyncio.sleep(0)
        with pytest.raises(ConflictError, match=r"another change is under way \(switch to"):
            rollout.roll_back()
        for change in (rollout.promote(), rollout.drop(), rollout.switch(bundles[2][0])):
            with pytest.raises(ConflictError, match=r"another change is under way \(switch to"):
                await change
        await first
        return versions(rollout)

    assert with_rollout(bundles, scenario) == [bundles[1][1], bundles[0][1], None]


def test_challenger_is_promoted_or_dropped(bundles):
    async def scenario(rollout, service):
        (_, a), (second, b), (third, c) = bundles
        with pytest.raises(ConflictError, match="no challenger"):
            await rollout.promote()
        await rollout.try_out(second, Mode.SHADOW, 1.0)
        challenger = rollout.challenger.model
        assert versions(rollout) == [a, None, b]
        await rollout.try_out(second, Mode.CANARY, 0.5)  # the same bundle: not loaded again
        assert rollout.challenger.model is challenger
        await rollout.promote()
        assert versions(rollout) == [b, a, None]
        await rollout.try_out(third, Mode.CANARY, 0.5)
        assert versions(rollout) == [b, a, c]
        await rollout.drop()
        with pytest.raises(ConflictError, match="no challenger"):
            await rollout.drop()
        return versions(rollout)

    assert with_rollout(bundles, scenario) == [bundles[1][1], bundles[0][1], None]


def test_metrics_tell_the_models_that_are_loaded_by_role(bundles):
    async def scenario(rollout, service):
        (_, _), (second, _), (third, _) = bundles
        await rollout.switch(second)
        await rollout.switch(third)
        await rollout.try_out(second, Mode.SHADOW, 1.0)
        changes = {labels["result"]: value for labels, value in series(service, "relevance_model_changes_total")}
        info = {labels["role"]: (labels["version"], value) for labels, value in series(service, "relevance_model_info")}
        return len(series(service, "relevance_model_info")), info, changes

    count, info, changes = with_rollout(bundles, scenario)
    (_, _), (_, b), (_, c) = bundles
    assert count == 3
    assert info == {"active": (c, 1), "previous": (b, 1), "challenger": (b, 1)}
    assert changes == {"switched": 2, "refused": 0, "rolled_back": 0, "promoted": 0}


def test_what_a_shadow_scores_is_not_counted_as_answers(bundles):
    async def scenario(rollout, service):
        await rollout.try_out(bundles[1][0], Mode.SHADOW, 1.0)
        scored = await rollout.active.score(PAIRS, RequestContext())
        for _ in range(40):  # more than may wait
            rollout.answered("any", rollout.active, PAIRS, scored)
        while series(service, "relevance_shadow_pairs_total")[0][1] < 32:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        names = ("batch_pairs_sum", "admitted_requests_total", "shadow_dropped_requests_total")
        return [series(service, f"relevance_{name}")[0][1] for name in names]

    assert with_rollout(bundles, scenario) == [1, 1, 8]


def busy_shadow(rollout, scored):
    for _ in range(20):
        rollout.answered("any", rollout.active, PAIRS, scored)
    return asyncio.sleep(0.001)  # the first is in progress


def test_work_that_a_shadow_drops_is_counted_once_and_not_for_callers(bundles):
    async def scenario(rollout, service):
        await rollout.try_out(bundles[1][0], Mode.SHADOW, 1.0)
        await busy_shadow(rollout, await rollout.active.score(PAIRS, RequestContext()))
        await rollout.promote()
        gone = series(service, "relevance_dropped_requests_total", why="caller_gone")[0][1]
        names = ("shadow_pairs_total", "shadow_dropped_requests_total")
        return gone, sum(series(service, f"relevance_{name}")[0][1] for name in names)

    gone, counted = with_rollout(bundles, scenario)
    assert gone == 0
    assert counted in (19, 20)  # one may just be compared


def test_shadow_goes_on_after_a_request_that_its_tokenizer_breaks_on(bundles, monkeypatch):
    async def scenario(rollout, service):
        await rollout.try_out(bundles[1][0], Mode.SHADOW, 1.0)
        broken, whole = [True], PairTokenizer.encode_texts

        def encode(self, texts):
            if broken:
                raise Exception(broken.pop())
            return whole(self, texts)

        scored = await rollout.active.score(PAIRS, RequestContext())
        monkeypatch.setattr(PairTokenizer, "encode_texts", encode)
        for _ in range(3):
            rollout.answered("any", rollout.active, PAIRS, scored)
        while series(service, "relevance_shadow_pairs_total")[0][1] < 2:
            await asyncio.sleep(0.001)
        return series(service, "relevance_shadow_dropped_requests_total")[0][1]

    assert with_rollout(bundles, scenario) == 1


@pytest.mark.parametrize("mode", Mode)
def test_memory_of_a_dropped_challenger_is_freed(bundles, mode):
    async def scenario(rollout, service):
        await rollout.try_out(bundles[1][0], mode, 1.0)
        await busy_shadow(rollout, await rollout.active.score(PAIRS, RequestContext()))
        engine = weakref.ref(rollout.challenger.model.stages[0].engine)
        gc.disable()  # it must not take the collector
        try:
            await rollout.drop()
            return await closed_and_freed(rollout, engine)
        finally:
            gc.enable()

    assert with_rollout(bundles, scenario) is None


def test_bundle_that_fails_while_it_warms_up_leaves_no_thread_behind(bundles, monkeypatch):
    def fail(engine, shape):
        raise BundleError("2 logits are not finite")

    async def scenario(rollout, service):
        monkeypatch.setattr(Engine, "warm_up", fail)
        before = threads()
        with pytest.raises(BundleRefusedError, match="not finite"):
            await rollout.switch(bundles[1][0])
        return threads() - before

    assert with_rollout(bundles, scenario) == 0


def threads():
    return sum(thread.name == "inference-qc" for thread in threading.enumerate())


def test_models_of_the_same_bundle_keep_their_roles_after_a_roll_back(bundles):
    async def scenario(rollout, service):
        await rollout.switch(bundles[0][0])
        rollout.roll_back()
        return [labels["role"] for labels, value in series(service, "relevance_model_info") if value]

    assert sorted(with_rollout(bundles, scenario)) == ["active", "previous"]


def test_challenger_that_can_no_longer_score_answers_no_caller(bundles):
    async def scenario(rollout, service):
        await rollout.try_out(bundles[1][0], Mode.CANARY, 1.0)
        before = rollout.answering("any").manifest.version
        await rollout.challenger.model.stages[0].scheduler.close()
        return before, rollout.answering("any").manifest.version, service.obstacle

    assert with_rollout(bundles, scenario) == (bundles[1][1], bundles[0][1], None)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_share_follows_the_ids_of_requests(share):
    ids = [f"request-{number}" for number in range(10_000)]
    chosen = {each for each in ids if in_share(each, share)}
    assert len(chosen) == pytest.approx(share * 10_000, abs=150)
    assert chosen <= {each for each in ids if in_share(each, min(1.0, share + 0.1))}


def test_equal_tokenisers_are_shared_and_others_not(bundles, tmp_path):
    tiny_bundle(tmp_path / "other", seed=1)
    tokenizer = (tmp_path / "other" / "tokenizer.json").read_text()
    (tmp_path / "other" / "tokenizer.json").write_text(tokenizer + "\n")
    opened = Bundle(tmp_path / "other", Bundle.open(bundles[1][0]).manifest, Bundle.open(bundles[1][0]).golden)
    write_bundle_files(tmp_path / "other", opened.manifest, opened.golden)

    async def scenario(rollout, service):
        first = rollout.active.stages[0].engine.tokenizer
        await rollout.switch(bundles[1][0])
        second = rollout.active.stages[0].engine.tokenizer
        await rollout.switch(tmp_path / "other")
        return second is first, rollout.active.stages[0].engine.tokenizer is first

    assert with_rollout(bundles, scenario) == (True, False)
