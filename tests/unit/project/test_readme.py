"""The figures in README and docs are those of the committed JSON results."""

import importlib.util
import json

import pytest

from tests import ROOT

SPEC = importlib.util.spec_from_file_location("demo_readme", ROOT / "benchmarks" / "demo" / "readme.py")
demo_readme = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo_readme)

README, QUALITY, PERFORMANCE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/quality.md", "docs/performance.md")
)


@pytest.mark.parametrize("setting", ["qc", "qc-zero-shot", "qi", "qi-graded"])
def test_quality_tables_are_those_of_the_results(setting, monkeypatch):
    path = ROOT / "benchmarks" / "real_data" / "run.py"
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location("real_data_run", path)
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    result = json.loads((path.parent / f"{setting}.json").read_text())
    assert run.table(result) in QUALITY
    assert result["command"] in QUALITY


def test_speed_figures_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks" / "serving" / "throughput.json").read_text())
    for figure in (
        f"{result['http_pairs_per_second']:.0f} pairs/s",
        f"{result['share_of_raw_session']:.2f} of",
        f"p50 {result['single_pair_ms']['p50']:.0f} ms",
        f"p99 {result['single_pair_ms']['p99']:.0f} ms",
    ):
        assert figure in PERFORMANCE


def test_null_model_figures_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks" / "serving" / "null_model.json").read_text())
    for load in ("recurring", "fresh"):
        assert f"{result[load]['pairs_per_second']:,.0f}" in PERFORMANCE


def test_the_table_of_strategies_is_that_of_the_studies():
    path = ROOT / "benchmarks" / "ablation" / "summary.py"
    spec = importlib.util.spec_from_file_location("ablation_summary", path)
    summary = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(summary)
    found = summary.files()
    assert found
    assert summary.table(found) in QUALITY
    for file in found:
        assert json.loads(file.read_text())["command"].split("benchmarks/")[-1] in QUALITY


def test_figures_on_the_samples_known_noise_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks" / "sample_noise" / "results.json").read_text())
    for task in ("qc", "qi"):
        default = result["tasks"][task]["probe"]["adaptive"]
        assert default["precision"] >= 0.6
        assert default["recall"] >= 0.5
        assert f"{default['precision']:.2f} / {default['recall']:.2f}" in QUALITY
        assert f"{default['random_precision']:.2f}" in QUALITY


def test_scale_figures_are_those_of_the_results():
    result = json.loads((ROOT / "benchmarks" / "scale" / "qc.json").read_text())
    assert result["within_limits"]
    assert f"{result['total_seconds']:.0f} s and {result['peak_mib']:.0f} MiB" in QUALITY
    null = json.loads((ROOT / "benchmarks" / "scale" / "score_null.json").read_text())
    batch = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    for shape, runs in null["shapes"].items():
        before, now = (runs[name]["cpu_microseconds_a_pair"] for name in ("before", "now"))
        assert f"| {shape} | {before:.0f} µs | {now:.0f} µs | {1e6 / now:,.0f} |" in batch


def test_comparison_and_pressure_figures_are_those_of_the_results():
    folder = ROOT / "benchmarks" / "serving"
    found, pressure, soak = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("compare", "pressure", "soak")
    )
    for server, share in found["share_of_raw"].items():
        assert f"{share['hundreds']:.2f} | {share['mixed']:.2f}" in PERFORMANCE, server
    for peer, times in found["times_the_peer"].items():
        for each in times.values():
            assert f"{each['mean']:.2f} ({each['least']:.2f}-{each['most']:.2f})" in PERFORMANCE, peer
    for peer in ("plain", "infinity"):
        each, mixed = (found["int8_times_the_peer"][peer][work]["mean"] for work in ("hundreds", "mixed"))
        assert f"{each:.2f} and {mixed:.2f} times as fast as" in PERFORMANCE, peer
    over, beside, gone = pressure["overload"], pressure["isolation"], pressure["aborts"]
    assert f"{beside['p99_over_p99_of_runs']:.1f} times the p99 of a model run" in PERFORMANCE
    assert f"{over['goodput_share_of_peak']:.2f} of the peak is answered within the target" in PERFORMANCE
    assert f"{over['answered_late']} of {over['answered']} answers late; {over['refused']} refusals" in PERFORMANCE
    assert f"within {over['refusals']['max_ms']:.0f} ms" in PERFORMANCE
    assert f"{gone['hung_up']} of {gone['requests']} callers hang up" in PERFORMANCE
    assert f"grows by {100 * soak['growth_after_2_minutes']:.1f} %" in PERFORMANCE


def test_demos_times_and_answer_are_those_of_the_result():
    """`python benchmarks/demo/run.py` renews both."""
    result = json.loads((ROOT / "benchmarks" / "demo" / "results.json").read_text())
    assert demo_readme.renewed(README, result) == README
    asked = demo_readme.request(README)
    assert len(asked["candidates"]) == len(result["answer"]["scores"])
    assert (asked["task"], [asked["language"]]) == (result["answer"]["task"], list(result["answer"]["thresholds"]))


def test_times_and_answer_of_another_result_go_into_the_readme():
    answer = {
        "task": "qc",
        "model": {"name": "x", "version": "0"},
        "scores": [{"score": 0.5, "label": 1}],
        "thresholds": {},
    }
    times = {"first_run_seconds": 1, "second_run_seconds": 2.5, "first_score_after_installation_seconds": 3}
    found = demo_readme.renewed(README, times | {"answer": answer})
    assert "The first `make demo` took 1 s on two CPU cores, the next one 2.5 s" in found
    assert "opened 3 s after installation" in found
    shown = demo_readme.ANSWER.search(found)[0]
    assert (json.loads(shown), shown.count("\n")) == (answer, 2)
    with pytest.raises(ValueError, match=r"README\.md: 0 places for '1', expected one"):
        demo_readme.renewed(README.replace("The first `make demo` took", "It took"), times | {"answer": answer})


def test_readme_is_one_screen():
    assert len(README.split()) <= 600
