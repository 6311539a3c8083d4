"""No text of a request in the log, whatever is asked and however it fails, at the level that tells most."""

import json
import sys

import httpx

from tests.serving import running

MARK = "zQ7marker"
JSON = {"content-type": "application/json"}
PAIRS = [[f"{MARK}query", f"{MARK}candidate"]]
BODIES = {
    "/v1/score": {"task": "qc", "query": f"{MARK}query", "candidates": [f"{MARK}candidate"]},
    "/v2/rerank": {"model": "qc", "query": f"{MARK}query", "documents": [{"text": f"{MARK}document"}]},
    "/v1/rerank": {"model": "qc", "query": f"{MARK}query", "documents": [f"{MARK}document"], "return_documents": True},
    "/rerank": {"model": "qc", "query": f"{MARK}query", "texts": [f"{MARK}text"], "return_text": True},
    "/predict": {"model": "qc", "inputs": PAIRS},
}
LINE = json.dumps({"query": f"{MARK}query", "candidate": f"{MARK}candidate", "id": f"{MARK}id"})


def spoilings(body):
    """Yield bodies made of a good one, each wrong in its own way and full of markers."""
    text = json.dumps(body)
    yield text
    yield text[:-1]
    yield text.replace('"qc"', f'"{MARK}task"')
    yield text[:-1] + f', "{MARK}key": "{MARK}value"}}'
    yield text[:-1] + f', "language": "{MARK}_", "top_n": "{MARK}", "raw_scores": "{MARK}", "pairs": "{MARK}"}}'
    yield text.replace(f'"{MARK}query"', f'["{MARK}query"]')
    yield text.replace(f"{MARK}query", f"{MARK}\\ud800")
    yield text.replace(f"{MARK}query", MARK * 2000)
    yield text.replace(f"{MARK}query", MARK * 400_000)
    yield json.dumps([MARK])
    yield f'"{MARK}"'
    yield MARK


def test_no_text_of_a_request_is_logged(bundle):
    with running({"qc": bundle}, log_level="DEBUG", max_body_bytes=2_000_000) as process:
        with httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
            seen = set()
            for path, body in BODIES.items():
                for content in spoilings(body):
                    for headers in (JSON, {"content-type": "text/plain"}, JSON | {"x-request-timeout-ms": "1"}):
                        seen.add(client.post(path, content=content, headers=headers).status_code)
            lines = [LINE, LINE[:-1], LINE.replace('"id"', f'"{MARK}"'), LINE.replace(f'"{MARK}query"', "3"), MARK]
            client.post("/v1/score/bulk?task=qc", content="\n".join(lines))
            client.post(f"/v1/score/bulk?task={MARK}", content=LINE)
            client.post(f"/rerank?model={MARK}", json=BODIES["/rerank"])
            client.post(f"/v1/{MARK}", json={})
            client.get(f"/v2/models/{MARK}/versions/{MARK}?{MARK}={MARK}")
            headers = {"x-request-timeout-ms": MARK, "cookie": MARK, "authorization": f"Bearer {MARK}"}
            client.post("/v1/score", json=BODIES["/v1/score"], headers=headers)
        process.child.terminate()
        process.end()
    assert {200, 400, 404, 413, 415, 422} <= seen
    assert len(process.lines) > 150
    assert not [line for line in process.lines if MARK in line]


def test_no_text_is_logged_where_the_model_fails(bundle):
    """A fault is logged with its traceback, which must not hold what the request said."""
    code = (
        "from service.runtime.session import Engine\n"
        "whole = Engine.logits\n"
        "def logits(self, pairs, width=0):\n"
        "    if any(len(pair) > 90 for pair in pairs): raise ValueError('zQ7marker') from KeyError('zQ7marker')\n"
        "    return whole(self, pairs, width)\n"
        "Engine.logits = logits\n"
        "from relevance.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "serve"]
    with running({"qc": bundle}, command=command, log_level="DEBUG", max_batch_tokens=32) as process:
        body = BODIES["/v1/score"] | {"query": MARK * 8}
        assert httpx.post(process.wait_ready() + "/v1/score", json=body).status_code == 500
        process.child.terminate()
        process.end()
    assert any("KeyError" in line and "ValueError" in line for line in process.lines)
    assert not [line for line in process.lines if MARK in line]
