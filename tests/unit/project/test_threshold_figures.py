"""The table of docs/models.md is that of the committed result."""

import json

from tests import ROOT


def test_figures_of_the_docs_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "benchmarks/real_data/thresholds.json").read_text())
    page = (ROOT / "docs/models.md").read_text()
    for name, row in [*result["languages"].items(), ("all translated", result["translated"])]:
        figures = " | ".join(f"{row[key]:.3f}" for key in ("f1_before", "f1_after", "always_yes_f1", "auc"))
        assert f"| {name} | {row['rows']:,} | {figures} |" in page
