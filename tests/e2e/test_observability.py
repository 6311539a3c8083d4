"""Dashboards, rules and alerts against a real Prometheus that watches real services, a healthy one and broken ones.

All times of the rules are divided by FACTOR: an hour takes 48 s. With ALERTS_JSON in the environment the findings are
written to that file (`python benchmarks/operate/alerts.py`).
"""

import json
import math
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import ROOT, prometheus
from tests.prometheus import Prometheus, scaled, watching
from tests.scenarios import SCENARIOS, load, services

FACTOR = 75
SCRAPE_SECONDS = 1.0
LATER_SECONDS = 10  # what befalls services befalls them then
LONGEST_SECONDS = 110  # the slowest alert takes 80
HOUR = 3600 / FACTOR
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
NO_GPU = "relevance_gpu_"  # series that a machine without a GPU does not have

pytestmark = pytest.mark.skipif(prometheus.missing() is not None, reason=str(prometheus.missing()))


@dataclass
class Found:
    """What fired, as job and alert, and how many series each query gave; the errors of rules."""

    fired: set[tuple[str, str]] = field(default_factory=set)
    no_targets: bool = False
    panels: dict[str, int] = field(default_factory=dict)
    recorded: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Start everything once, wait for all alerts that are due, and ask all queries while the load goes on."""
    folder, seen = tmp_path_factory.mktemp("observability"), Found()
    with services(folder, HOUR) as started:
        targets = {f"relevance-{name}": url.removeprefix("http://") for name, (_, _, url) in started.items()}
        with (
            load({name: url for name, (_, _, url) in started.items()}),
            watching(folder / "prometheus", targets, FACTOR, SCRAPE_SECONDS) as watcher,
        ):
            began = time.time()
            time.sleep(LATER_SECONDS)
            for name, (process, bundle, _) in started.items():
                SCENARIOS[name].later(process, bundle)
            _wait(watcher, seen, began + LONGEST_SECONDS)
            seen.seconds = time.time() - began
            seen.panels = {text: _series(watcher, text, began) for text in _panel_queries()}
            _read_rules(watcher, seen, began)
            watcher.lose_targets()
            until = time.time() + 20
            while not seen.no_targets and time.time() < until:
                seen.no_targets = ("", "RelevanceNoTargets") in watcher.firing()
                time.sleep(0.5)
    if out := os.environ.get("ALERTS_JSON"):
        _write(Path(out), seen)
    return seen


def _wait(watcher: Prometheus, seen: Found, until: float) -> None:
    due = {(f"relevance-{name}", alert) for name, scenario in SCENARIOS.items() for alert in scenario.must}
    while time.time() < until and not due <= seen.fired:
        seen.fired |= watcher.firing()
        time.sleep(0.5)


def _read_rules(watcher: Prometheus, seen: Found, began: float) -> None:
    for group in watcher.get("rules")["groups"]:
        for rule in group["rules"]:
            if rule["type"] == "recording":
                seen.recorded[rule["name"]] = _series(watcher, rule["name"], began)
            if rule["health"] != "ok":
                seen.errors.append(f"{rule['name']}: {rule.get('lastError')}")


def _series(watcher: Prometheus, query: str, began: float) -> int:
    """Return how many series of a query hold a number, at any time since then."""
    found = watcher.get("query_range", query=query, start=str(began), end=str(time.time()), step="1")["result"]
    return sum(any(not math.isnan(float(value)) for _, value in series["values"]) for series in found)


def _panel_queries() -> set[str]:
    """Return the queries of all panels, variables and annotations, all variables at their widest."""
    texts = set()
    for path in DASHBOARDS.glob("*.json"):
        board = json.loads(path.read_text())
        texts |= {target["expr"] for panel in board["panels"] for target in panel.get("targets", ())}
        texts |= {note["expr"] for note in board["annotations"]["list"]}
        for variable in board["templating"]["list"]:
            if match := re.fullmatch(r"label_values\((.+), \w+\)", str(variable.get("query"))):
                texts.add(match[1])
    narrow = {scaled(text.replace("$__rate_interval", "5m"), FACTOR) for text in texts}
    return {re.sub(r"\$\w+", ".*", text) for text in narrow}


def _write(out: Path, seen: Found) -> None:
    alerts = sorted({alert for _, alert in seen.fired} | {"RelevanceNoTargets"})
    matrix = {
        name: {alert: (f"relevance-{name}", alert) in seen.fired for alert in alerts if alert != "RelevanceNoTargets"}
        for name in SCENARIOS
    } | {"no targets": {"RelevanceNoTargets": seen.no_targets}}
    found = {"fired": matrix, "seconds": round(seen.seconds, 1), "scaled_by": FACTOR}
    found |= {"panel_queries": seen.panels, "recording_rules": seen.recorded, "rule_errors": seen.errors}
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", SCENARIOS)
def test_alerts_fire_in_their_fault_and_only_there(found, name):
    scenario = SCENARIOS[name]
    fired = {alert for job, alert in found.fired if job == f"relevance-{name}"}
    assert scenario.must <= fired
    assert fired <= scenario.must | scenario.may


def test_nothing_fires_without_a_service_but_the_alert_that_says_so(found):
    assert found.no_targets
    assert {job for job, _ in found.fired} <= {f"relevance-{name}" for name in SCENARIOS}


def test_every_query_of_the_dashboards_gives_data(found):
    assert len(found.panels) > 40
    assert [text for text, count in found.panels.items() if not count and NO_GPU not in text] == []


def test_every_recording_rule_gives_data_and_no_rule_fails(found):
    assert found.errors == []
    assert len(found.recorded) > 20
    assert [name for name, count in found.recorded.items() if not count] == []
