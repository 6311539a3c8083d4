"""The README's figures are those of the committed JSON results."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["qc", "qi"])
def test_quality_tables_are_those_of_the_results(task):
    path = ROOT / "benchmarks" / "real_data" / "run.py"
    spec = importlib.util.spec_from_file_location("real_data_run", path)
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    result = json.loads((path.parent / f"{task}.json").read_text())
    assert run.table(result) in README
    assert result["command"] in README


def test_speed_figures_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks" / "serving" / "throughput.json").read_text())
    for figure in (
        f"{result['http_pairs_per_second']:.0f} pairs/s",
        f"{result['share_of_raw_session']:.2f} of",
        f"p50 {result['single_pair_ms']['p50']:.0f} ms",
        f"p99 {result['single_pair_ms']['p99']:.0f} ms",
    ):
        assert figure in README


def test_every_linked_file_exists():
    import re

    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
