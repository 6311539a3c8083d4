"""Readiness, overload, cancelled callers and faults, with the app in this process."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
import time

import onnx
import pytest

from relevance.errors import BundleError, ConfigError, MachineError
from relevance.model.bundle import MODEL_FILE, Bundle, write_bundle_files
from relevance.tasks import Task
from relevance.text.tokenization import PairTokenizer
from service.api import middleware
from service.api.app import create_app
from service.batch_shape import BatchShape
from service.cli import parse_bundles
from service.runtime.session import Engine
from service.settings import Settings
from tests.serving import in_process
from tests.tiny import MAX_LENGTH, tiny_bundle, tiny_model

BODY = {"task": "qc", "query": "shoes", "candidates": ["Shoes", "Socks"]}


def large_body():
    return {"task": "qc", "query": "shoes", "candidates": [f"{i} " + "x" * 60 for i in range(300)]}


def resealed(folder, model):
    """Put another model into a bundle, hashes and all."""
    opened = Bundle.open(folder)
    onnx.save(model, folder / MODEL_FILE)
    write_bundle_files(folder, opened.manifest, opened.golden)


def test_model_that_disagrees_with_its_golden_pairs_is_never_ready(tmp_path):
    tiny_bundle(tmp_path / "qc", hidden=16)
    resealed(tmp_path / "qc", tiny_model(seed=1, hidden=16, depth=0))

    async def scenario(client, service):
        assert isinstance(service.failure, BundleError)
        ready, score, alive = (
            await client.get("/readyz"),
            await client.post("/v1/score", json=BODY),
            await client.get("/healthz"),
        )
        return [ready.status_code, score.status_code, alive.status_code], ready.json()["detail"]

    statuses, detail = in_process({Task.QC: tmp_path / "qc"}, scenario)
    assert statuses == [503, 503, 200]
    assert "golden pair 1 scored" in detail


def test_loading_service_is_alive_and_not_ready(bundle):
    async def scenario(client, service):
        service.settled.clear()
        rollout = service.rollouts[Task.QC]
        model, rollout.active = rollout.active, None
        ready, score = await client.get("/readyz"), await client.post("/v1/score", json=BODY)
        rollout.active = model
        return ready, score

    for answer in in_process({Task.QC: bundle}, scenario):
        assert (answer.status_code, answer.json()["reason"], answer.headers["retry-after"]) == (503, "not_ready", "1")
        assert "being loaded" in answer.json()["detail"]


def test_overload_is_refused_whole_with_a_time_to_come_back(bundle):
    async def scenario(client, service):
        first, go_on = await in_work(client, service, large_body())
        second = await client.post("/v1/score", json=large_body())
        go_on.set()
        return await first, second, await client.post("/v1/score", json=BODY)

    first, second, third = in_process({Task.QC: bundle}, scenario, max_queued_tokens=1000)
    assert first.status_code == 200  # more than the limit, but nothing else waits
    assert (second.status_code, second.json()["reason"]) == (429, "overloaded")
    assert 1 <= int(second.headers["retry-after"]) <= 60
    assert re.search(r"expected at most 1000", second.json()["detail"])
    assert third.status_code == 200


def hold_runs(service):
    """Let every model run wait until the event that is returned is set."""
    go_on, scheduler = threading.Event(), service.models[Task.QC].stages[0].scheduler
    run = scheduler._run
    scheduler._run = lambda pairs, width: go_on.wait(60) and run(pairs, width)
    return go_on


async def in_work(client, service, body):
    """Send a request; return its task once the model has it, and the event that the model's runs wait for."""
    go_on, task = hold_runs(service), asyncio.create_task(client.post("/v1/score", json=body))
    while not service.models[Task.QC].stages[0].scheduler.queued_tokens:
        await asyncio.sleep(0.001)
    return task, go_on


def test_full_queue_refuses_before_anything_of_the_request_is_read(bundle):
    async def scenario(client, service):
        first, go_on = await in_work(client, service, large_body())
        answer = await client.post("/v1/score", content=b"no JSON", headers={"content-type": "text/plain"})
        go_on.set()
        return answer, await first

    refused, first = in_process({Task.QC: bundle}, scenario, max_queued_tokens=1000)
    assert (refused.status_code, refused.json()["reason"], first.status_code) == (429, "overloaded", 200)


def test_burst_is_refused_before_its_text_is_tokenised(slow_bundle, monkeypatch):
    calls, go_on, encode = [], threading.Event(), PairTokenizer.encode_texts

    def held(self, texts):
        calls.append(len(texts))
        go_on.wait(60)
        return encode(self, texts)

    async def scenario(client, service):
        monkeypatch.setattr(PairTokenizer, "encode_texts", held)
        bodies = [large_body() | {"query": f"shoes {number}"} for number in range(12)]
        asked = [asyncio.create_task(client.post("/v1/score", json=body)) for body in bodies]
        while sum(task.done() for task in asked) < 11:
            await asyncio.sleep(0.001)
        go_on.set()
        return await asyncio.gather(*asked)

    answers = in_process({Task.QC: slow_bundle}, scenario, max_queued_tokens=1000)
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 11
    assert len(calls) == 1


def test_deadline_also_limits_tokenising(bundle, monkeypatch):
    encode, go_on = PairTokenizer.encode_texts, threading.Event()

    def held(self, texts):
        go_on.wait(60)
        return encode(self, texts)

    async def scenario(client, service):
        monkeypatch.setattr(PairTokenizer, "encode_texts", held)
        asked = asyncio.create_task(
            client.post("/v1/score", json=large_body(), headers={"x-request-timeout-ms": "100"})
        )
        await asyncio.wait([asked], timeout=30)
        answered_meanwhile = asked.done()
        go_on.set()
        return await asked, answered_meanwhile

    answer, answered_meanwhile = in_process({Task.QC: bundle}, scenario)
    assert (answer.status_code, answer.json()["reason"]) == (504, "deadline")
    assert answered_meanwhile


def test_large_request_is_refused_where_a_small_one_is_accepted(bundle):
    async def scenario(client, service):
        first, go_on = await in_work(client, service, large_body())
        large, waiting = await client.post("/v1/score", json=large_body()), service.models[Task.QC].stages[0].scheduler
        before = waiting.queued_tokens
        small = asyncio.create_task(client.post("/v1/score", json=BODY))
        while waiting.queued_tokens == before and not small.done():
            await asyncio.sleep(0.001)
        go_on.set()
        return large, await small, await first

    large, small, first = in_process({Task.QC: bundle}, scenario, max_queued_tokens=30_000)
    assert (large.status_code, large.json()["reason"]) == (429, "overloaded")
    assert (small.status_code, first.status_code) == (200, 200)


def test_requests_over_the_cap_are_refused(bundle):
    async def scenario(client, service):
        first, go_on = await in_work(client, service, large_body())
        second = await client.post("/v1/score", json=BODY)
        go_on.set()
        return second, await first, await client.post("/v1/score", json=BODY)

    second, first, third = in_process({Task.QC: bundle}, scenario, max_requests=1)
    assert (second.status_code, second.json()["reason"]) == (429, "too_many_requests")
    assert second.headers["retry-after"] == "1"
    assert (first.status_code, third.status_code) == (200, 200)


def counted(service, name, **labels):
    return service.metrics.registry.get_sample_value(f"relevance_{name}_total", {"task": "qc"} | labels)


def test_request_whose_estimate_was_far_too_low_is_admitted_again_or_refused(bundle):
    """Before the estimator has learned anything, it takes 1,500 tokens of this tokenizer for 400."""

    async def scenario(client, service):
        body = {"task": "qc", "query": "shoes", "candidates": [f"{number} " + "x" * 65 for number in range(20)]}
        first, go_on = await in_work(client, service, body)
        second = await client.post("/v1/score", json=body)
        go_on.set()
        return second, await first

    second, first = in_process({Task.QC: bundle}, scenario, max_queued_tokens=2500)
    assert (second.status_code, second.json()["reason"], first.status_code) == (429, "overloaded", 200)
    assert int(re.search(r"(\d+) requested", second.json()["detail"])[1]) > 1400


def test_deadline_that_cannot_be_met_is_refused_at_once(slow_bundle):
    async def scenario(client, service):
        model = service.models[Task.QC]
        answer = await client.post("/v1/score", json=large_body(), headers={"x-request-timeout-ms": "20"})
        assert (counted(service, "admitted_requests"), counted(service, "dropped_requests", why="expired")) == (0, 0)
        return answer, model.stages[0].scheduler.queued_tokens

    answer, queued = in_process({Task.QC: slow_bundle}, scenario)
    assert (answer.status_code, answer.json()["reason"], queued) == (504, "deadline", 0)
    assert "scoring needs about" in answer.json()["detail"]


class AdmitAll:
    """Admits every request."""

    full = False

    def admit(self, tokens, deadline):
        pass

    def reserve(self, tokens):
        return contextlib.nullcontext()


def test_deadline_that_passes_while_waiting_ends_the_work(bundle, monkeypatch):
    async def scenario(client, service):
        model = service.models[Task.QC]
        model.admission, go_on = AdmitAll(), hold_runs(service)  # no run ends before the deadline has passed
        monkeypatch.setattr(middleware, "deadline_of", lambda request, settings: time.monotonic() + 0.05)
        answer = await client.post("/v1/score", json=BODY)
        go_on.set()
        assert (counted(service, "admitted_requests"), counted(service, "dropped_requests", why="expired")) == (1, 1)
        return answer, model.stages[0].scheduler.queued_tokens

    answer, queued = in_process({Task.QC: bundle}, scenario)
    assert (answer.status_code, answer.json()["reason"], queued) == (504, "deadline", 0)
    assert "the deadline passed" in answer.json()["detail"]


def test_known_pairs_are_not_scored_again(bundle):
    async def scenario(client, service):
        def sample(name, **labels):
            service.refresh_metrics()
            return service.metrics.registry.get_sample_value(name, {"task": "qc"} | labels)

        first = await client.post("/v1/score", json=BODY)
        runs = sample("relevance_batch_pairs_sum")
        again = await client.post("/v1/score", json=BODY | {"candidates": ["Socks", "Shoes", "Hats", "Hats"]})
        hits = sample("relevance_cache_lookups_total", cache="scores", result="hit")
        return first.json()["scores"], again.json()["scores"], sample("relevance_batch_pairs_sum") - runs, hits

    first, again, runs, hits = in_process({Task.QC: bundle}, scenario, score_cache_pairs=10)
    assert again[:2] == first[::-1]
    assert again[2] == again[3]
    assert (runs, hits) == (1, 2)


def test_small_request_overtakes_a_large_one(slow_bundle):
    async def scenario(client, service):
        large, go_on = await in_work(client, service, large_body())
        scheduler = service.models[Task.QC].stages[0].scheduler
        before = scheduler.queued_tokens
        small, order = asyncio.create_task(client.post("/v1/score", json=BODY)), []
        for name, task in (("large", large), ("small", small)):
            task.add_done_callback(lambda done, name=name: order.append(name))
        while scheduler.queued_tokens == before:
            await asyncio.sleep(0.001)
        go_on.set()
        return (await large).status_code, (await small).status_code, order

    assert in_process({Task.QC: slow_bundle}, scenario) == (200, 200, ["small", "large"])


async def call(app, body, disconnect):
    """Call /v1/score over bare ASGI, close the connection when `disconnect` is set; return the messages sent."""
    sent, whole = [], [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive():
        if whole:
            return whole.pop()
        await disconnect.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/v1/score", "raw_path": b"/v1/score", "query_string": b"", "root_path": ""}
    scope |= {"headers": [(b"content-type", b"application/json")], "client": ("test", 1), "server": ("test", 80)}
    await app(scope, receive, send)
    return sent


def test_work_of_a_caller_that_went_away_is_dropped(bundle):
    async def run():
        app = create_app(Settings(), {Task.QC: bundle})
        async with app.router.lifespan_context(app):
            await app.state.service.settled.wait()
            scheduler = app.state.service.models[Task.QC].stages[0].scheduler
            disconnect, go_on = asyncio.Event(), hold_runs(app.state.service)
            calling = asyncio.create_task(call(app, large_body(), disconnect))
            while not scheduler.queued_tokens:
                await asyncio.sleep(0.001)
            disconnect.set()
            sent = await calling
            while scheduler.queued_tokens:  # while no run ends, only dropping the work can bring it to 0
                await asyncio.sleep(0.001)
            go_on.set()
            after = await call(app, BODY, asyncio.Event())
            return sent[0]["status"], after[0]["status"]

    assert asyncio.run(run()) == (499, 200)


def test_failed_model_run_is_a_500_and_the_next_one_works(bundle):
    async def scenario(client, service):
        engine = service.models[Task.QC].stages[0].engine
        whole = engine.tokenizer.collate
        engine.tokenizer.collate = lambda *how: {name: array[:, :0] for name, array in whole(*how).items()}
        failed = await client.post("/v1/score", json=BODY)
        engine.tokenizer.collate = whole
        return failed, await client.post("/v1/score", json=BODY), await client.get("/readyz")

    failed, good, ready = in_process({Task.QC: bundle}, scenario)
    assert (failed.status_code, failed.json()["reason"]) == (500, "scoring_failed")
    assert (good.status_code, ready.status_code) == (200, 200)


def test_ended_inference_thread_is_not_ready(bundle):
    async def scenario(client, service):
        await service.models[Task.QC].stages[0].scheduler.close()
        return await client.get("/readyz"), await client.post("/v1/score", json=BODY)

    for answer in in_process({Task.QC: bundle}, scenario):
        assert answer.status_code == 503
        assert "an inference thread has ended" in answer.json()["detail"]


def test_fault_of_the_service_is_a_500_without_details(bundle):
    async def scenario(client, service):
        service.settings = None
        return await client.post("/v1/score", json=BODY, headers={"x-request-id": "bug-1"})

    answer = in_process({Task.QC: bundle}, scenario)
    assert (answer.status_code, answer.json()["reason"], answer.json()["request_id"]) == (500, "internal", "bug-1")
    assert "NoneType" not in answer.text


def test_service_imports_neither_torch_nor_transformers():
    code = (
        "import sys, service.api.app, service.process.server; "
        "print([m for m in ('torch', 'transformers', 'optimum', 'onnx', 'pyarrow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_command_line_imports_no_web_and_no_runtime():
    code = (
        "import sys, service.cli; "
        "print([m for m in ('fastapi', 'uvicorn', 'onnxruntime', 'pydantic_settings') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("argument", ["qc", "qc=", "qx=.", "=.", "."])
def test_bundle_argument_of_another_form_is_refused(argument):
    with pytest.raises(ConfigError, match=re.escape(repr(argument)) + ".*expected TASK=DIR"):
        parse_bundles([argument])


def test_task_given_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="twice"):
        parse_bundles([f"qc={tmp_path}", f"qc={tmp_path}"])


def test_cuda_asked_for_and_missing_is_refused(bundle):
    with pytest.raises(MachineError, match="onnxruntime-gpu"):
        Engine(Bundle.open(bundle), device="cuda")


def test_model_with_other_inputs_than_the_manifest_says_is_refused(tmp_path):
    tiny_bundle(tmp_path / "qc")
    opened = Bundle.open(tmp_path / "qc")
    manifest = opened.manifest.model_copy(update={"input_names": ("input_ids",)})
    write_bundle_files(tmp_path / "qc", manifest, opened.golden)
    with pytest.raises(BundleError, match="attention_mask"):
        Engine(Bundle.open(tmp_path / "qc"))


def test_file_that_is_not_a_model_is_refused(tmp_path):
    tiny_bundle(tmp_path / "qc")
    opened = Bundle.open(tmp_path / "qc")
    (tmp_path / "qc" / MODEL_FILE).write_bytes(b"no model")
    write_bundle_files(tmp_path / "qc", opened.manifest, opened.golden)
    with pytest.raises(BundleError, match="does not load"):
        Engine(Bundle.open(tmp_path / "qc"))


def test_bundle_without_golden_pairs_is_refused(tmp_path):
    tiny_bundle(tmp_path / "qc")
    write_bundle_files(tmp_path / "qc", Bundle.open(tmp_path / "qc").manifest, [])
    with pytest.raises(BundleError, match="no golden pairs"):
        Engine(Bundle.open(tmp_path / "qc"))


def test_bound_run_gives_the_same_logits(bundle):
    engine = Engine(Bundle.open(bundle))
    pairs = engine.tokenizer.encode_pairs([("shoes", "Shoes"), ("cup", "Red ceramic cup")])
    expected = engine.logits(pairs).tolist()
    engine.device = "cuda"  # takes the path of a GPU on the processor
    assert engine.logits(pairs).tolist() == expected


def test_padding_to_a_longer_width_changes_no_logit(bundle):
    engine = Engine(Bundle.open(bundle))
    pairs = engine.tokenizer.encode_pairs([("shoes", "Shoes"), ("cup", "Red ceramic cup")])
    assert engine.logits(pairs, 64).tolist() == pytest.approx(engine.logits(pairs).tolist(), abs=1e-5)


def test_warming_up_runs_every_shape_and_tells_the_speed(bundle):
    engine = Engine(Bundle.open(bundle))
    shapes = []
    whole = engine.logits
    engine.logits = lambda pairs, width=0: shapes.append((len(pairs), len(pairs[0]))) or whole(pairs, width)
    speeds = engine.warm_up(BatchShape(128, (16, 32, 64, 512)).limited_to(MAX_LENGTH))
    assert set(shapes) == {(1, 16), (8, 16), (1, 32), (4, 32), (1, 64), (2, 64), (1, MAX_LENGTH)}
    assert [(tokens, padded) for tokens, padded, _ in speeds] == [(128, 128)] * 3 + [(MAX_LENGTH, MAX_LENGTH)]
    assert all(seconds > 0 for _, _, seconds in speeds)


def test_a_service_that_can_score_no_more_asks_for_a_restart(bundle):
    async def scenario(client, service):
        before = (await client.get("/healthz")).status_code
        await service.models[Task.QC].stages[0].scheduler.close()
        paths = ("/healthz", "/v2/health/live", "/readyz")
        return before, [(await client.get(path)).status_code for path in paths]

    assert in_process({Task.QC: bundle}, scenario) == (200, [503, 503, 503])
