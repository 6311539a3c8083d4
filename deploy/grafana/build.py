"""Writes the dashboards: `python -m deploy.grafana.build`, after any change beside this file.

Needs the package grafana-foundation-sdk (extra `dev`), whose types are those of Grafana itself.
"""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.operations import operations
from deploy.grafana.relevance import relevance

FOLDER = Path(__file__).parent / "dashboards"
TITLES = {"Model changes": "{{task}}: {{result}}", "Alerts": "{{alertname}}"}


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the content of each file of the folder by its name."""
    made = {"operations.json": operations(), "relevance.json": relevance()}
    found = {name: json.loads(JSONEncoder(sort_keys=True).encode(board.build())) for name, board in made.items()}
    for board in found.values():
        for number, panel in enumerate(board["panels"], 1):
            panel["id"] = number  # links to a panel name it
        for note in board["annotations"]["list"]:  # an option of Prometheus that the package does not know
            note["titleFormat"] = TITLES[note["name"]]
    return found


def text(board: dict[str, Any]) -> str:
    """Return a dashboard as it stands in its file."""
    return json.dumps(board, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, board in dashboards().items():
        (FOLDER / name).write_text(text(board), encoding="utf-8")
