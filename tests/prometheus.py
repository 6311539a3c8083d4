"""Runs a real Prometheus for tests, over the project's rules with their times scaled down."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(?<=\[|\s)(\d+)([smhd])(?=[\])\s])")
START_SECONDS = 20


def missing() -> str | None:
    """Return why no Prometheus can be started, or None."""
    absent = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"not on the PATH: {', '.join(absent)} (apt-get install prometheus)" if absent else None


def scaled(text: str, factor: float) -> str:
    """Return rules or a query with all durations, which stand alone or in brackets, divided by a factor."""

    def shorter(match: re.Match[str]) -> str:
        return f"{round(1000 * int(match[1]) * UNITS[match[2]] / factor)}ms"

    return DURATION.sub(shorter, text)


class Prometheus:
    """A Prometheus process that scrapes each target as a job of its own."""

    def __init__(self, folder: Path, targets: Mapping[str, str], factor: float, scrape_seconds: float) -> None:
        """Start with the project's rules; `targets` are addresses by the name of their job."""
        self._folder, self._interval = folder, f"{round(1000 * scrape_seconds)}ms"
        folder.mkdir(parents=True)
        for path in RULES.glob("*.yaml"):
            (folder / f"rules-{path.name}").write_text(scaled(path.read_text(), factor))
        self._jobs = tuple(targets)
        self._write(targets)
        self._log = (folder / "log").open("w")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        self._child = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--query.lookback-delta=30s",
            ],
            stderr=self._log,
        )

    def get(self, path: str, **arguments: str) -> Any:
        """Return the data of an answer of Prometheus's API. Raises AssertionError with its words for a bad query."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None

    def wait_ready(self) -> None:
        """Wait until it answers queries."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._child.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError("Prometheus did not start:\n" + (self._folder / "log").read_text())

    def firing(self) -> set[tuple[str, str]]:
        """Return job and alert of all that fires; the job is empty for an alert about no job."""
        found = [alert for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]
        return {(alert["labels"].get("job", ""), alert["labels"]["alertname"]) for alert in found}

    def lose_targets(self) -> None:
        """Find no target of any job from now on."""
        self._write(dict.fromkeys(self._jobs, ""))
        self._child.send_signal(signal.SIGHUP)

    def end(self) -> None:
        """Stop the process."""
        self._child.kill()
        self._child.wait()
        self._log.close()

    def _write(self, targets: Mapping[str, str]) -> None:
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [address] if address else []}]}
            for name, address in sorted(targets.items())
        ]
        config = {
            "global": {
                "scrape_interval": self._interval,
                "scrape_timeout": self._interval,
                "evaluation_interval": self._interval,
            },
            "rule_files": [str(self._folder / "rules-*.yaml")],
            "scrape_configs": jobs,
        }
        (self._folder / "prometheus.yaml").write_text(json.dumps(config))  # JSON is YAML too


@contextlib.contextmanager
def watching(folder: Path, targets: Mapping[str, str], factor: float, scrape_seconds: float) -> Iterator[Prometheus]:
    """Start Prometheus and make sure that it is gone in the end."""
    prometheus = Prometheus(folder, targets, factor, scrape_seconds)
    try:
        prometheus.wait_ready()
        yield prometheus
    finally:
        prometheus.end()
