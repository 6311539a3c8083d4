"""Reports of loaded models over HTTP: to whom they are sent, with which headers, and what is none of them."""

import shutil

import httpx
import pytest

from export.cascading import make_cascade
from relevance.model.bundle import Bundle
from relevance.tasks import Task
from service.auth.key_file import entry, new_secret
from tests.cascades import two_bundles, write_dev
from tests.serving import admin_url, in_process, running
from tests.tiny import add_reports

REPORT = "<!doctype html><title>Rows</title><script>alert(1)</script>"
OPEN = {"open_reports": True}


def get(folder, *requests, **settings):
    """Return the answers of GET requests (path, headers) by a service of a QC bundle with these settings."""

    async def scenario(http, service):
        return [await http.get(path, headers=headers) for path, headers in requests]

    return in_process({Task.QC: folder}, scenario, **settings)


@pytest.fixture
def reported(bundles, tmp_path):
    """A bundle with a report, and the path below which its reports are."""
    folder = shutil.copytree(bundles["qc"], tmp_path / "qc")
    version = add_reports(folder, {"test-set.html": REPORT}).version
    return folder, f"/page/reports/qc/{version}"


def test_report_of_a_loaded_model_is_sent_into_a_sandbox(reported):
    folder, base = reported
    card, report, around = get(folder, ("/v1/models/qc", {}), (f"{base}/test-set.html", {}), ("/report", {}), **OPEN)
    assert card.json()["models"][0]["reports"] == ["test-set.html"]
    assert (report.status_code, report.text) == (200, REPORT)
    assert report.headers["content-type"] == "text/html; charset=utf-8"
    allowed = report.headers["content-security-policy"]
    assert allowed.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'")
    assert "script-src" not in allowed
    assert report.headers["cache-control"] == "no-store"
    policy = around.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-src blob:" in policy


WRONG = [
    ("qi/{version}/test-set.html", "unknown_task"),
    ("qc/000000000000/test-set.html", "unknown_report"),
    ("qc/{version}/data.html", "unknown_report"),
    ("qc/{version}/manifest.json", "unknown_report"),
    ("qc/{version}/..%2fmanifest.json", "unknown_path"),
    ("qc/{version}/../../../../etc/passwd", "unknown_path"),
    ("qc/{version}/%2e%2e", "unknown_report"),
    ("qc/{version}/" + "x" * 2000, "unknown_report"),
    ("qc/{version}", "unknown_path"),
]


@pytest.mark.parametrize(("path", "reason"), WRONG)
def test_what_is_no_report_of_a_loaded_model_is_not_sent(reported, path, reason):
    folder, base = reported
    (answer,) = get(folder, ("/page/reports/" + path.format(version=base.rpartition("/")[2]), {}), **OPEN)
    assert (answer.status_code, answer.json()["reason"]) == (404, reason)


def test_report_that_was_altered_since_is_not_sent(reported):
    folder, base = reported

    async def scenario(http, service):
        (folder / "reports/test-set.html").write_text("<p>other rows")
        return await http.get(f"{base}/test-set.html")

    answer = in_process({Task.QC: folder}, scenario, **OPEN)
    assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_report")
    assert "has changed since the bundle was opened; load the bundle again" in answer.json()["detail"]


def test_reports_need_a_key_of_scope_admin_and_the_page(reported, tmp_path):
    folder, base = reported
    file, score, admin = tmp_path / "keys.toml", new_secret(), new_secret()
    file.write_text(entry("search", score, ["score"]) + entry("us", admin, ["admin"]))
    headers = [{}, {"x-api-key": score}, {"x-api-key": admin}]
    answers = get(folder, *((f"{base}/test-set.html", each) for each in headers), api_keys=file)
    assert [answer.status_code for answer in answers] == [401, 403, 200]
    opened = get(folder, (f"{base}/test-set.html", {}), api_keys=file, **OPEN)
    assert opened[0].status_code == 401  # the setting opens nothing where keys are set
    off = get(folder, (f"{base}/test-set.html", {}), ("/report", {}), page=False, **OPEN)
    assert [answer.status_code for answer in off] == [404, 404]


LOOKING_LOCAL = [
    {},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    {"Host": "localhost"},
    {"Origin": "http://localhost", "Referer": "http://localhost/report"},
]


def test_without_keys_reports_are_sent_to_nobody_however_local_a_caller_looks(reported):
    folder, base = reported
    with running({"qc": folder}, admin_port=0) as process:
        urls = [process.wait_ready(), admin_url(process)]
        answers = [httpx.get(f"{url}{base}/test-set.html", headers=each) for url in urls for each in LOOKING_LOCAL]
        card = httpx.get(f"{urls[0]}/v1/models/qc").json()["models"][0]
        told = [httpx.get(f"{url}/page/config").json()["reports"] for url in urls]
    assert {(answer.status_code, answer.json()["reason"]) for answer in answers} == {(403, "reports_off")}
    assert "expected api_keys with a key of scope admin, or open_reports" in answers[0].json()["detail"]
    assert REPORT not in "".join(answer.text for answer in answers)
    assert card["reports"] == ["test-set.html"]
    assert told == [False, False]


def test_operator_opens_reports_to_everybody_and_the_log_says_so(reported):
    folder, base = reported
    with running({"qc": folder}, host="0.0.0.0", **OPEN) as process:
        url = process.wait_ready().replace("0.0.0.0", "127.0.0.1")
        answer, config = httpx.get(f"{url}{base}/test-set.html"), httpx.get(f"{url}/page/config").json()
    assert (answer.status_code, answer.text) == (200, REPORT)
    assert config["reports"]
    (line,) = [line for line in process.lines if "no API keys are set" in line]
    assert "WARNING" in line
    assert "may call, and read the reports (open_reports)" in line


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    """A cascade whose two models have reports, and both of their versions."""
    root = tmp_path_factory.mktemp("cascade")
    small, large = two_bundles(root)
    add_reports(small, {"test-set.html": "<p>small"})
    add_reports(large, {"test-set.html": "<p>large", "data.html": "<p>rows"})
    make_cascade(small, large, root / "both", write_dev(root / "dev.jsonl", small, large), 0.002)
    return root / "both", [Bundle.open(folder).manifest.version for folder in (small, large)]


def test_reports_of_both_models_of_a_cascade_are_sent(cascade):
    folder, (small, large) = cascade
    paths = [f"/page/reports/qc/{version}/test-set.html" for version in (small, large)]
    wrong = f"/page/reports/qc/{small}/data.html"
    card, first, second, other = get(folder, *((path, {}) for path in ("/v1/models/qc", *paths, wrong)), **OPEN)
    (model,) = card.json()["models"]
    assert model["cascade"]["versions"] == {"small": small, "large": large}
    assert model["stage_reports"] == {"small": ["test-set.html"], "large": ["data.html", "test-set.html"]}
    assert model["reports"] == []
    assert (first.text, second.text) == ("<p>small", "<p>large")
    assert (other.status_code, other.json()["reason"]) == (404, "unknown_report")


def test_report_of_a_cascades_model_that_was_altered_since_is_not_sent(cascade, tmp_path):
    folder = shutil.copytree(cascade[0], tmp_path / "both")

    async def scenario(http, service):
        (folder / "large/reports/data.html").write_text("<p>other rows")
        return await http.get(f"/page/reports/qc/{cascade[1][1]}/data.html")

    answer = in_process({Task.QC: folder}, scenario, **OPEN)
    assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_report")
