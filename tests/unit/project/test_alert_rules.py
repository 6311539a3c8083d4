"""The rules and dashboards as files; tests/e2e/test_observability.py runs them."""

import json
import re
import subprocess

import pytest
import yaml

from service.api.app import create_app
from service.api.problems import REASONS
from service.observability.metrics import COUNT_CLASSES, SECONDS
from service.settings import Settings
from tests import ROOT, prometheus
from tests.prometheus import scaled
from tests.scenarios import SCENARIOS

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
RUNBOOKS = (DEPLOY.parent / "docs" / "runbooks.md").read_text()
ANCHORS = {title.lower() for title in re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)}
ALERTS = [rule for group in yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
RECORDED = [
    rule for group in yaml.safe_load((RULES / "recording.yaml").read_text())["groups"] for rule in group["rules"]
]
BOARDS = {path.name: json.loads(path.read_text()) for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
PANELS = [panel for board in BOARDS.values() for panel in board["panels"] if panel["type"] != "row"]

needs_promtool = pytest.mark.skipif(prometheus.missing() is not None, reason=str(prometheus.missing()))


@needs_promtool
@pytest.mark.parametrize("what", [("check", "rules", "rules"), ("test", "rules", "tests")])
def test_promtool_is_content(what):
    *command, folder = what
    files = sorted(map(str, (DEPLOY / "prometheus" / folder).glob("*.yaml")))
    done = subprocess.run(["promtool", *command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_the_configuration():
    done = subprocess.run(
        ["promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_says_what_it_is_and_links_to_its_runbook(alert):
    told = alert["annotations"]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert told["summary"]
    assert "$value" in told["description"] or alert["alert"] in SAYS_ENOUGH
    assert told["runbook_url"].split("#")[1] == alert["alert"].lower()
    assert alert["alert"].lower() in ANCHORS


SAYS_ENOUGH = {  # these fire on a state, whose value says nothing
    "RelevanceTargetDown",
    "RelevanceNoTargets",
    "RelevanceNotReady",
    "RelevanceInferenceRestarted",
    "RelevanceBundleRefused",
}


def test_every_alert_is_made_to_fire_by_a_real_fault_or_by_promtool():
    live = {alert for scenario in SCENARIOS.values() for alert in scenario.must} | {"RelevanceNoTargets"}
    made_up = "".join(path.read_text() for path in (DEPLOY / "prometheus" / "tests").glob("*.yaml"))
    assert live <= {alert["alert"] for alert in ALERTS}
    for alert in {alert["alert"] for alert in ALERTS} - live:
        assert f'alertname="{alert}"' in made_up


def test_every_runbook_is_of_an_alert_and_its_links_lead_somewhere():
    assert {alert["alert"].lower() for alert in ALERTS} == ANCHORS
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOKS):
        path, _, anchor = target.partition("#")
        assert (DEPLOY.parent / "docs" / path).exists() if path else anchor in ANCHORS, target


def test_burn_rates_are_the_same_query_over_every_window():
    for name in ("slow", "failed"):
        rules = [rule for rule in RECORDED if rule["record"].startswith(f"job:relevance_{name}_requests:")]
        windows = [rule["record"].removeprefix(f"job:relevance_{name}_requests:ratio_rate") for rule in rules]
        assert windows == ["5m", "30m", "1h", "6h", "3d"]
        texts = {rule["expr"].replace(f"[{window}]", "[]") for rule, window in zip(rules, windows, strict=True)}
        assert len(texts) == 1


def test_rules_name_what_the_service_has():
    text = "".join(rule["expr"] for rule in RECORDED)
    (routes,) = set(re.findall(r'route=~"([^"]+)"', text))
    policies = create_app(Settings(), {}).state.policies
    matched = [path for path in policies.scoring if re.fullmatch(routes, path)]
    assert matched == [path for path in policies.scoring if policies.find(path).policy.is_interactive("POST")]
    (classes,) = set(re.findall(r'pairs=~"([^"]+)"', text))
    assert classes.split("|") == [name for limit, name in COUNT_CLASSES.items() if limit <= 100]
    (bound,) = set(re.findall(r'le="([^"]+)"', text))
    assert float(bound) in SECONDS
    for reasons in re.findall(r'reason=~"([^"]+)"', (RULES / "alerts.yaml").read_text()):
        assert set(reasons.split("|")) <= set(REASONS)


def test_scaling_divides_every_duration_and_nothing_else():
    rule = "record: x:ratio_rate5m\nexpr: a[5m] + (b[1h] offset 1d) > 0.5\nfor: 2m\n# 5m: in 30 days\n"
    assert scaled(rule, 60) == (
        "record: x:ratio_rate5m\nexpr: a[5000ms] + (b[60000ms] offset 1440000ms) > 0.5\nfor: 2000ms\n# 5m: in 30 days\n"
    )
    for path in RULES.glob("*.yaml"):
        for alone in re.findall(r"\[[^\]]+\]|offset \w+|for: \w+", scaled(path.read_text(), 60)):
            assert alone.rstrip("]").endswith("ms") or not re.search(r"\d", alone)


def test_dashboards_are_what_the_script_makes():
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is in the dev extra")
    from deploy.grafana.build import dashboards, text

    for name, board in dashboards().items():
        assert (DEPLOY / "grafana" / "dashboards" / name).read_text() == text(board)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_has_words_unit_and_data_source(panel):
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    for link in panel.get("links", ()):
        assert link["url"].split("#")[1] in ANCHORS


def test_every_metric_of_dashboards_and_rules_is_one_of_the_service():
    pages = [json.dumps(BOARDS), *(path.read_text() for path in RULES.glob("*.yaml"))]
    named = {name for page in pages for name in re.findall(r"(?<![\w:])relevance_\w+", page)}
    source = "".join(path.read_text() for path in (DEPLOY.parent / "service").rglob("*.py"))
    for name in named:
        plain = re.sub(r"_(total|bucket|sum|count)$", "", name).removeprefix("relevance_")
        assert f'"{plain}"' in source or f'"relevance_{plain}"' in source or plain.endswith("_duration_seconds"), name
