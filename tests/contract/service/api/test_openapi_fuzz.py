"""schemathesis against a real process: every route, no 5xx, no status or shape that the OpenAPI page does not have."""

import pytest

from relevance.tasks import Task
from service.auth.key_file import entry, new_secret
from tests.openapi_fuzz import INSTALLED, fuzz
from tests.serving import running
from tests.tiny import tiny_bundle


@pytest.mark.timeout(3600)  # half a minute on an idle core
@pytest.mark.skipif(not INSTALLED, reason="needs the package schemathesis")
def test_every_route_keeps_to_the_openapi_page(tmp_path):
    bundles = {task: tmp_path / task for task in ("qc", "qi")}
    for task, folder in bundles.items():
        tiny_bundle(folder, Task(task))
    secret = new_secret()
    (tmp_path / "keys.toml").write_text(entry("fuzz", secret, ["score"]))
    with running(bundles, api_keys=tmp_path / "keys.toml", threads=1) as process:
        report = fuzz(process.wait_ready(), secret, examples=12, seed=1)
        assert process.child.poll() is None
    assert report.exit_code == 0, report.output
    assert report.operations >= 17
    assert report.generated > 300
    statuses = {name.rsplit(" ")[-1] for name in report.requests}
    assert {"200", "401", "404", "405", "422"} <= statuses
    assert not any(status.startswith("5") for status in statuses)
    assert not any('"traceback"' in line for line in process.lines)
