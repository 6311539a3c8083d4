"""The page's routes: what they send, with which headers, and to whom. test_page_in_browser has what people see."""

import gzip
import hashlib
import itertools
import json
import re
import threading
import tomllib
from pathlib import Path

import pytest

from relevance.tasks import Task
from service.api.page import files
from service.api.page.files import page_files
from service.auth.key_file import entry, new_secret
from tests import ROOT
from tests.serving import in_process
from training.sample.playground import OUT, playground

STATIC = ROOT / "service/api/page/static"
OURS = [path for path in page_files() if not path.startswith("vendor/")]


def get(bundles, *requests, **settings):
    """Return the answers of GET requests (path, headers) by a service with these settings."""

    async def scenario(http, service):
        return [await http.get(path, headers=headers) for path, headers in requests]

    return in_process({Task(task): folder for task, folder in bundles.items()}, scenario, **settings)


def test_page_and_its_files_are_sent_with_a_strict_policy_and_the_right_type(bundles):
    paths = {
        "/": "text/html",
        "/docs": "text/html",
        "/page/js/main.js": "text/javascript",
        "/page/icon.svg": "image/svg",
    }
    for answer, kind in zip(get(bundles, *((path, {}) for path in paths)), paths.values(), strict=True):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_file_is_sent_compressed_and_not_again_while_it_is_the_same(bundles):
    path, content = "/page/js/main.js", (STATIC / "js/main.js").read_bytes()
    plain, packed = get(bundles, (path, {"accept-encoding": "identity"}), (path, {"accept-encoding": "br, GZIP;q=0.5"}))
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip;q=0", "br, gzip; q=0.000", "notgzip"):
        assert "content-encoding" not in get(bundles, (path, {"accept-encoding": accepted}))[0].headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.content == packed.content == content
    assert gzip.decompress(page_files()["js/main.js"].compressed) == content
    (again,) = get(bundles, (path, {"if-none-match": plain.headers["etag"]}))
    assert (again.status_code, again.content) == (304, b"")


OUTSIDE = ["../files.py", "%2e%2e/files.py", "js", "js/", "", "vendor/../../routes.py", "x" * 3000]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path[:30])
def test_nothing_else_is_sent(bundles, path):
    (answer,) = get(bundles, (f"/page/{path}", {}))
    assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_path")


def test_setting_turns_the_page_off_but_not_the_interactive_docs(bundles):
    home, docs, script = get(bundles, ("/", {}), ("/docs", {}), ("/page/js/docs.js", {}), page=False)
    assert (home.status_code, home.json()["reason"]) == (404, "unknown_path")
    assert docs.status_code == script.status_code == 200


def test_page_is_open_and_says_for_what_a_key_is_needed(bundles, tmp_path):
    file = tmp_path / "keys.toml"
    requests = [(path, {}) for path in ("/", "/docs", "/page/config", "/openapi.json", "/v1/models/qc")]
    nothing = {"score": False, "metrics": False, "admin": False}
    config = {"keys": nothing, "admin": False, "reports": False, "loading": False}
    assert get(bundles, requests[2])[0].json() == config
    file.write_text(entry("search", new_secret(), ["score"]))
    answers = get(bundles, *requests, api_keys=file)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401]
    assert answers[2].json()["keys"] == {"score": True, "metrics": False, "admin": True}
    file.write_text(entry("search", new_secret(), ["score", "metrics"]))
    assert get(bundles, requests[2], api_keys=file)[0].json()["keys"]["metrics"]


def test_card_of_a_task_has_what_the_manifest_says(bundles, versions):
    found, unknown = get(bundles, ("/v1/models/qc", {}), ("/v1/models/none", {}))
    (card,) = found.json()["models"]
    assert found.json()["task"] == "qc"
    assert (card["role"], card["mode"], card["version"]) == ("active", None, versions["qc"])
    assert card["language_thresholds"] == {"ja": 0.9}
    assert card["rerank_advice"] == {"en": "rerank", "ja": "keep_order"}
    assert card["calibration"]["scale"] == 1
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "unknown_task")


@pytest.mark.parametrize("path", [path for path in OURS if path.endswith(".html")])
def test_html_holds_no_script_no_style_and_names_only_files_that_exist(path):
    html = page_files()[path].content.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []
    named = re.findall(r'(?:src|href)="page/([^"]+)"', html)
    assert named
    assert [name for name in named if name not in page_files()] == []


def test_files_name_no_other_host_and_import_only_one_another():
    imported = []
    for path in OURS:
        text = page_files()[path].content.decode()
        assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text.replace("http://www.w3.org/2000/svg", "")) == [], path
        imported += re.findall(r'from "\./([^"]+)"', text) if path.endswith(".js") else []
    assert imported
    assert [name for name in imported if f"js/{name}" not in page_files()] == []


def test_no_file_of_ours_parses_html_out_of_text():
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function")
    texts = {path: page_files()[path].content.decode() for path in OURS}
    assert [(path, word) for path, word in itertools.product(texts, words) if word in texts[path]] == []


def test_files_are_short():
    assert [path for path in OURS if page_files()[path].content.count(b"\n") > 300 and not path.endswith("json")] == []


def test_libraries_are_those_that_the_notice_names():
    notice = (STATIC / "vendor/NOTICE.txt").read_text()
    named = dict(re.findall(r"([0-9a-f]{64})  (\S+)", notice))
    files = [path for path in (STATIC / "vendor").iterdir() if path.suffix != ".txt"]
    assert {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in files} == named
    for licence in re.findall(r"\S+LICENSE\.txt", notice.replace("(", " ")):
        assert (STATIC / "vendor" / licence).is_file()


def test_all_files_are_package_data():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for each in data["service.api.page"] for path in STATIC.parent.glob(each) if path.is_file()}
    assert packed == {path for path in STATIC.rglob("*") if path.is_file()}
    assert len(packed) == len(page_files())


def test_sample_is_that_of_the_shop():

    assert Path(OUT) == STATIC.relative_to(ROOT) / "sample.json"
    found = json.loads((STATIC / "sample.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(playground())), "run python -m training.sample.playground"
    assert len(found) >= 10


def test_the_openapi_page_is_made_beside_the_event_loop(bundles):
    """It takes some 400 ms, for which no other caller may wait."""

    async def scenario(http, service):
        app, threads = http._transport.app, []
        made = app.openapi
        app.openapi = lambda: (threads.append(threading.current_thread()), made())[1]
        answer = await http.get("/openapi.json")
        assert "/v1/score" in answer.json()["paths"]
        return threads

    threads = in_process({Task(task): folder for task, folder in bundles.items()}, scenario)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_files_are_read_beside_the_event_loop(bundles, monkeypatch):
    """To compress them takes some 100 ms, for which no other caller may wait."""
    threads, read = [], files._read
    monkeypatch.setattr(files, "_read", lambda file: (threads.append(threading.current_thread()), read(file))[1])
    page_files.cache_clear()
    (answer,) = get(bundles, ("/", {}))
    assert answer.status_code == 200
    assert threads
    assert threading.current_thread() not in threads
