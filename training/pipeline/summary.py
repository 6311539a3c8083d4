"""One line about the result of a stage."""

from typing import Any

from training.pipeline.store import Result


def summary(result: Result) -> str:
    """Return one line about the result of a stage."""
    report = result.manifest.report
    if result.manifest.stage == "read":
        rows = ", ".join(f"{part} {count:,} rows" for part, count in report["rows"].items() if count)
        left_out = (
            f"; {bad:,} bad rows left out, {result.file(name)}" for name, bad in report.get("bad_rows", {}).items()
        )
        return rows + "".join(left_out)
    if result.manifest.stage == "split":
        return ", ".join(f"{part} {report[part]['rows']:,} rows" for part in ("train", "dev", "test") if part in report)
    if "rows_in" in report:
        return f"{report['rows_in']:,} rows in, {report['rows_out']:,} out"
    if result.manifest.stage == "evaluate":
        every = report["metrics"]["all"]
        area = every["auc"]["value"]  # absent where there is one class only
        return (
            f"AUC {'-' if area is None else f'{area:.3f}'}, F1 {every['f1']['value']:.3f} on {report['evaluated_on']}"
        )
    return ", ".join(f"{name} {_short(value)}" for name, value in report.items() if not isinstance(value, dict))


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
