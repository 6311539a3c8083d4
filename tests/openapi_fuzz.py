"""Runs schemathesis, which makes requests out of an OpenAPI page, against a running service. For test and benchmark."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass

import httpx

from tests import DATA, ROOT

INSTALLED = importlib.util.find_spec("schemathesis") is not None
CONFIG = DATA / "schemathesis.toml"


@dataclass(frozen=True)
class Report:
    """What came of a run: `requests` counts them by route and status, as the service's own metrics tell."""

    exit_code: int
    operations: int
    generated: int
    requests: dict[str, float]
    output: str


def fuzz(url: str, key: str, examples: int, seed: int) -> Report:
    """Send requests to every operation of the page at `url`, `examples` of each at most in its random part."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
    command += ["--phases", "examples,coverage,fuzzing", "--mode", "all"]
    command += ["--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "300"]
    command += ["--suppress-health-check", "all", "--generation-database", "none", "--no-color"]
    command += ["--header", f"Authorization: Bearer {key}"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.openapi_hooks", "COLUMNS": "200"}
    root = ROOT
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    output = done.stdout + done.stderr
    counts = [re.search(pattern, output) for pattern in (r"Tested: (\d+)", r"([\d,]+) generated")]
    operations, generated = (int(found[1].replace(",", "")) if found else 0 for found in counts)
    page = httpx.get(f"{url}/metrics").text
    series = re.findall(r'^relevance_requests_total\{route="([^"]+)",status="(\d+)"\} ([\d.e+]+)$', page, re.MULTILINE)
    requests = {f"{route} {status}": float(count) for route, status, count in series if float(count)}
    return Report(done.returncode, operations, generated, requests, output)
