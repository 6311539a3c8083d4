"""The type and the coding of bodies: JSON in UTF-8, as it is or as gzip; all else is 415."""

import gzip
import json
import zlib

import httpx
import pytest

from relevance.tasks import Task
from tests.serving import running
from tests.tiny import tiny_bundle

BODY = json.dumps({"task": "qc", "query": "青い 靴", "candidates": ["Shoes", "Socks"]}, ensure_ascii=False).encode()
LINES = b'{"query": "a", "candidate": "b"}\n' * 3
PATH, BULK = "/v1/score", "/v1/score/bulk?task=qc"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "qc"
    tiny_bundle(folder, Task.QC)
    with running({"qc": folder}) as process, httpx.Client(base_url=process.wait_ready(), timeout=30) as client:
        yield client


def sent(client, body, path=PATH, **headers):
    given = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers=given)


@pytest.mark.parametrize(
    "declared",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/problem+json",
    ],
)
def test_json_in_utf8_is_accepted(client, declared):
    assert sent(client, BODY, content_type=declared).status_code == 200


@pytest.mark.parametrize(
    "declared",
    ["text/json", "text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "", "text/x+json"],
)
def test_other_types_are_refused_by_name(client, declared):
    answer = sent(client, BODY, content_type=declared)
    assert (answer.status_code, answer.json()["reason"]) == (415, "media_type")
    assert repr(declared) in answer.json()["detail"]
    assert "application/json" in answer.json()["detail"]


def test_a_body_without_a_type_is_refused(client):
    answer = client.build_request("POST", PATH, content=BODY)
    assert "content-type" not in answer.headers
    assert client.send(answer).status_code == 415


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "cp932"])
def test_other_charsets_are_refused_by_name(client, charset):
    answer = sent(client, BODY, content_type=f"application/json; charset={charset}")
    assert answer.status_code == 415
    assert "charset utf-8" in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
@pytest.mark.parametrize("members", [[BODY], [BODY[:9], BODY[9:]]], ids=["one", "two"])
def test_gzip_is_accepted(client, coding, members):
    body = b"".join(map(gzip.compress, members))
    assert sent(client, body, content_encoding=coding).json()["scores"] == sent(client, BODY).json()["scores"]


def test_gzip_is_accepted_in_pieces(client):
    body = gzip.compress(BODY, mtime=0)
    pieces = (body[n : n + 1] for n in range(len(body)))
    assert sent(client, pieces, content_encoding="gzip").status_code == 200


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_body_without_coding_is_accepted(client, coding):
    assert sent(client, BODY, content_encoding=coding).status_code == 200


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "compress", "gzip, gzip", "identity, br", "x"])
def test_other_codings_are_refused_by_name(client, coding):
    answer = sent(client, zlib.compress(BODY), content_encoding=coding)
    assert (answer.status_code, answer.json()["reason"]) == (415, "media_type")
    assert f"Content-Encoding {coding!r}: expected gzip or none" in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_bulk_lines_are_not_compressed(client, coding):
    answer = sent(client, gzip.compress(LINES), path=BULK, content_encoding=coding)
    assert (answer.status_code, answer.json()["reason"]) == (415, "media_type")
    assert f"Content-Encoding {coding!r}: expected none" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (gzip.compress(BODY, mtime=0)[:-9], "cut off"),
        (gzip.compress(BODY, mtime=0)[:5], "cut off"),
        (gzip.compress(BODY, mtime=0) + gzip.compress(BODY, mtime=0)[:-1], "cut off"),
        (gzip.compress(BODY, mtime=0)[:-8] + bytes(8), "not the gzip data"),
        (gzip.compress(BODY, mtime=0) + b"rest", "not the gzip data"),
        (BODY, "not the gzip data"),
        (zlib.compress(BODY), "not the gzip data"),
    ],
    ids=["end", "head", "second member", "checksum", "rest", "plain", "zlib"],
)
def test_gzip_that_is_damaged_is_refused(client, body, said):
    answer = sent(client, body, content_encoding="gzip")
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid_request")
    assert said in answer.json()["detail"]


def test_a_byte_order_mark_is_skipped(client):
    assert sent(client, b"\xef\xbb\xbf" + BODY).status_code == 200


def test_limits_hold_for_what_gzip_decompresses_to(client):
    answer = sent(client, gzip.compress(BODY[:-1] + b" " * 3_000_000 + b"}"), content_encoding="gzip")
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    assert client.get("/healthz").status_code == 200
