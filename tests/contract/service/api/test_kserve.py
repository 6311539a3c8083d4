"""Health and metadata of the Open Inference Protocol (KServe v2), against the real service and app."""

import signal
import time

import httpx
import pytest

from relevance.errors import BundleError
from relevance.tasks import Task
from service.auth.key_file import entry, new_secret
from tests.serving import in_process, running

HEALTH = ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny-qc-1/ready")


@pytest.fixture(scope="module")
def client(bundles):
    with running(bundles) as process, httpx.Client(base_url=process.wait_ready()) as client:
        yield client


def found(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def error(answer, status):
    """The error object of an answer: problem details with the protocol's `error`."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["status"] == status
    assert body["error"] == body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_server_lives_is_ready_and_says_what_it_is(client):
    assert found(client, "/v2/health/live") == {"live": True}
    assert found(client, "/v2/health/ready") == {"live": True, "ready": True}
    assert found(client, "/v2").keys() == {"name", "version", "extensions"}


@pytest.mark.parametrize("name", ["tiny-qi-2", "qi", "tiny-qi-2/versions/VERSION", "qi/versions/VERSION"])
def test_model_is_found_by_name_or_task_and_version(client, versions, name):
    path = "/v2/models/" + name.replace("VERSION", versions["qi"])
    metadata = found(client, path)
    assert (metadata["name"], metadata["versions"]) == ("tiny-qi-2", [versions["qi"]])
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["inputs"] == [
        {"name": "query", "datatype": "BYTES", "shape": [-1]},
        {"name": "candidate", "datatype": "BYTES", "shape": [-1]},
        {"name": "language", "datatype": "BYTES", "shape": [-1]},
    ]
    assert [(each["name"], each["datatype"]) for each in metadata["outputs"]] == [("score", "FP64"), ("label", "INT64")]
    assert found(client, path + "/ready") == {"name": "tiny-qi-2", "ready": True}


@pytest.mark.parametrize("name", ["tiny", "QI", "qi/versions/1", "tiny-qc-1/versions/VERSION"])
@pytest.mark.parametrize("end", ["", "/ready"])
def test_unknown_model_or_version_names_the_served_ones(client, versions, name, end):
    body = error(client.get(f"/v2/models/{name.replace('VERSION', versions['qi'])}{end}"), 404)
    assert body["reason"] == "unknown_task"
    assert f"'tiny-qc-1' version '{versions['qc']}', 'tiny-qi-2' version '{versions['qi']}'" in body["error"]


def test_draining_lives_but_is_not_ready(bundles):
    with running(bundles, drain_seconds=30) as process, httpx.Client(base_url=process.wait_ready()) as client:
        process.child.send_signal(signal.SIGTERM)
        while (answer := client.get("/v2/health/ready")).status_code == 200:
            time.sleep(0.005)
        assert error(answer, 503) | {"live": False, "ready": False} == answer.json()
        assert answer.headers["retry-after"] == "1"
        assert found(client, "/v2/health/live") == {"live": True}
        body = error(client.get("/v2/models/tiny-qc-1/ready"), 503)
        assert (body["name"], body["ready"]) == ("tiny-qc-1", False)
        assert "shutting down" in body["error"]


def test_loading_is_not_ready_and_knows_no_model_yet(bundles):
    async def scenario(client, service):
        service.settled.clear()  # as while the bundles load
        service.rollouts[Task.QC].active = None
        return [await client.get(path) for path in (*HEALTH, "/v2/models/tiny-qc-1", "/v2/models/nothing")]

    live, *others = in_process({Task.QC: bundles["qc"]}, scenario)
    assert live.json() == {"live": True}
    for answer in others:
        assert "loaded and tested" in error(answer, 503)["error"]


def test_a_missing_api_key_is_told_under_the_key_that_clients_read(bundles, tmp_path):
    (tmp_path / "keys.toml").write_text(entry("caller", new_secret(), ["score"]))

    async def scenario(client, service):
        return [await client.get(path) for path in ("/v2", "/v2/models/qc", "/v2/models/qc/ready")]

    for answer in in_process({Task.QC: bundles["qc"]}, scenario, api_keys=tmp_path / "keys.toml"):
        assert "no API key" in error(answer, 401)["error"]


def test_failed_loading_is_not_ready(bundles, tmp_path):
    async def scenario(client, service):
        assert isinstance(service.failure, BundleError)
        return [await client.get(path) for path in HEALTH]

    live, *others = in_process({Task.QC: tmp_path}, scenario)
    assert live.status_code == 200
    for answer in others:
        assert "loading failed" in error(answer, 503)["error"]


def test_dead_inference_thread_is_neither_ready_nor_live(bundles):
    async def scenario(client, service):
        await service.models[Task.QC].stages[0].scheduler.close()
        return [await client.get(path) for path in HEALTH]

    for answer in in_process({Task.QC: bundles["qc"]}, scenario):
        assert "inference thread" in error(answer, 503)["error"]
