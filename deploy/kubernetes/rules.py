"""Writes the PrometheusRule of the component `monitoring`: `python deploy/kubernetes/rules.py`.

The rules are those of deploy/prometheus/rules; a test compares the two.
"""

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
RULES = HERE.parent / "prometheus" / "rules"
TARGET = HERE / "components" / "monitoring" / "prometheusrule.yaml"
HEAD = "# Written by `python deploy/kubernetes/rules.py` out of deploy/prometheus/rules: change it there.\n"


def manifest() -> dict[str, Any]:
    """Return the PrometheusRule with the groups of all rule files, in the order of the files."""
    groups = [
        group
        for file in sorted(RULES.glob("*.yaml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "relevance",
            "namespace": "relevance",
            "labels": {"app.kubernetes.io/name": "relevance"},
        },
        "spec": {"groups": groups},
    }


if __name__ == "__main__":
    text = yaml.safe_dump(manifest(), sort_keys=False, allow_unicode=True, width=120)
    TARGET.write_text(HEAD + text, encoding="utf-8")
