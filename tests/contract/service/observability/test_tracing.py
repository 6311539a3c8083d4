"""Traces of a real service: to a collector over HTTP, and to the exporter in memory of OpenTelemetry's own SDK."""

import http.server
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import httpx
import pytest

from relevance.errors import MachineError
from relevance.tasks import Task
from service.observability.tracing import Answered, Tracer
from service.settings import Settings
from tests.serving import in_process, running

installed = pytest.mark.skipif(
    not all(map(find_spec, ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter"))),
    reason="the extra `tracing` (OpenTelemetry's SDK and exporter) is not installed",
)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = PARENT[:-1] + "0"
PARTS = ["admit", "tokenize", "queue", "run", "serialize"]
BODY = {"task": "qc", "query": "velvet shoes", "candidates": ["Velvet Shoes", "Garden"], "language": "en"}


class Collector:
    """Takes OTLP over HTTP, as a collector does; with `silent`, it never answers."""

    def __init__(self, silent=False):
        self.bodies, received = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if silent:
                    time.sleep(60)
                received.bodies.append((self.path, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def spans(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = []
        for path, body in self.bodies:
            assert path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                assert names["service.name"] == "relevance"
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


def in_memory(bundle, scenario, share=1.0, **settings):
    """The spans of a service in this process while a scenario ran."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()

    async def traced(client, service):
        service.tracer = Tracer(SimpleSpanProcessor(exporter), share)
        await scenario(client)

    in_process({Task.QC: bundle}, traced, **settings)
    return exporter.get_finished_spans()


@installed
def test_a_request_reaches_the_collector_with_its_parts_and_its_parent(bundle):
    with Collector() as collector, running({"qc": bundle}, otlp_endpoint=collector.url, trace_share=0) as process:
        url = process.wait_ready()
        assert httpx.post(f"{url}/v1/score", json=BODY, headers={"traceparent": PARENT}).status_code == 200
        assert httpx.post(f"{url}/v1/score", json=BODY).status_code == 200  # none of the share, which is 0
        process.child.terminate()
        assert process.end() == 0
        spans = {span.name: span for span in collector.spans()}
        sent = b"".join(body for _, body in collector.bodies)
    assert set(spans) == {"POST /v1/score", *PARTS}
    assert len(collector.spans()) == 6
    top = spans["POST /v1/score"]
    assert {span.trace_id.hex() for span in spans.values()} == {PARENT.split("-")[1]}
    assert top.parent_span_id.hex() == PARENT.split("-")[2]
    assert {spans[part].parent_span_id for part in PARTS} == {top.span_id}
    assert b"velvet" not in sent.lower()
    assert any(f'"trace_id": "{PARENT.split("-")[1]}"' in line for line in process.lines)


@installed
def test_parts_follow_one_another_within_the_request(bundle):
    async def scenario(client):
        await client.post("/v1/score", json=BODY)

    began = time.time_ns()
    *parts, top = in_memory(bundle, scenario)
    assert [span.name for span in parts] == PARTS
    moments = [top.start_time, *(moment for span in parts for moment in (span.start_time, span.end_time)), top.end_time]
    assert moments == sorted(moments)
    assert began <= moments[0]
    assert moments[-1] <= time.time_ns()
    for span in (*parts, top):
        about = dict(span.attributes)
        assert (about["relevance.task"], about["relevance.pairs"]) == ("qc", 2)
        assert about["relevance.tokens"] > 20
        assert about["http.response.status_code"] == 200
        assert not any("elvet" in str(value) for value in about.values())


@installed
def test_refused_request_is_one_span_with_its_reason(bundle):
    async def scenario(client):
        await client.post("/v1/score", json=BODY | {"task": "nothing"})
        await client.get("/healthz")
        await client.get("/metrics")

    (span,) = in_memory(bundle, scenario)
    assert span.attributes["http.response.status_code"] == 404
    assert span.attributes["relevance.reason"] == "unknown_task"


@installed
def test_share_and_callers_decide_what_is_traced(bundle):
    async def scenario(client):
        for _ in range(60):
            await client.post("/v1/score", json=BODY)
        await client.post("/v1/score", json=BODY, headers={"traceparent": NOT_SAMPLED})
        await client.post("/v1/score", json=BODY, headers={"traceparent": "nonsense"})

    every = [span for span in in_memory(bundle, scenario) if span.name not in PARTS]
    assert len(every) == 61  # all but the one whose caller does not trace it
    assert 10 < sum(span.name not in PARTS for span in in_memory(bundle, scenario, share=0.5)) < 50
    assert in_memory(bundle, scenario, share=0.0) == ()


@installed
def test_headers_of_a_caller_are_not_quoted_in_the_log(bundle, caplog):
    async def scenario(client):
        for state in ("=velvet", "velvet=" + "x" * 9000):
            await client.post("/v1/score", json=BODY, headers={"traceparent": PARENT, "tracestate": state})

    assert len(in_memory(bundle, scenario)) == 12
    assert "velvet" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


@installed
def test_collector_that_never_answers_holds_nothing_up(bundle):
    with (
        Collector(silent=True) as collector,
        running({"qc": bundle}, otlp_endpoint=collector.url, trace_share=1) as process,
    ):
        url = process.wait_ready()
        began = time.monotonic()
        for _ in range(20):
            assert httpx.post(f"{url}/v1/score", json=BODY).status_code == 200
        assert time.monotonic() - began < 60  # a collector waited for takes ten seconds a request
        process.child.terminate()
        assert process.end() == 0
    assert time.monotonic() - began < 120


@installed
def test_variables_turn_no_other_telemetry_on(bundle, monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with running({"qc": bundle}) as process:
            url = process.wait_ready()
            assert httpx.post(f"{url}/v1/score", json=BODY | {"unknown": "velvet"}).status_code == 422
            process.child.terminate()
            assert process.end() == 0
        assert collector.bodies == []


def test_parts_are_laid_out_backwards_from_the_scores():
    seconds = {"queue": 0.2, "tokenize": 0.1, "run": 0.3}
    answered = Answered("POST", "/v1/score", 200, 10.0, 11.0, {}, {}, seconds, 10.9)
    found = list(answered.parts())
    assert [name for name, _, _ in found] == PARTS
    assert [moment for _, *both in found for moment in both] == pytest.approx(
        [10.0, 10.3, 10.3, 10.4, 10.4, 10.6, 10.6, 10.9, 10.9, 11.0]
    )
    assert list(Answered("POST", "/v1/score", 429, 10.0, 11.0, {}, {}).parts()) == []


def test_without_the_package_the_extra_is_named(monkeypatch):
    for name in ("opentelemetry", "opentelemetry.exporter", "opentelemetry.exporter.otlp.proto.http.trace_exporter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MachineError, match=r"otlp_endpoint http://c:4318: .* expected the extra `tracing`"):
        Tracer.open(Settings(otlp_endpoint="http://c:4318"))


def test_tracing_that_is_off_imports_nothing():
    code = "import service.process.server, sys; from service.observability.tracing import Tracer; "
    code += "from service.settings import Settings; assert Tracer.open(Settings()) is None; "
    code += "print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
