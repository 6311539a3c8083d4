"""Print one table of all studies in this folder, for docs/quality.md: `python benchmarks/ablation/summary.py`."""

import json
from pathlib import Path

from relevance.evaluation.intervals import Interval
from training.ablation.study import Study

HERE = Path(__file__).parent
TITLES = {
    "qc": "QC zero-shot",
    "qi": "QI, English training",
    "clicks": "QI, clicks only",
    "dirty": "QI, 25 % of labels flipped at random",
    "dirty-alike": "QI, 25 % flipped, more where alike",
    "dirty-most-alike": "QI, the most alike 25 % flipped",
}
ORDER = list(TITLES)


def load(path: Path) -> Study:
    """Return the study that a JSON file holds."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Study.model_validate({name: content[name] for name in Study.model_fields})


def files() -> list[Path]:
    """Return the studies' files, the standard ones first."""
    found = [path for path in HERE.glob("*.json") if path.name != "explain.json"]
    return sorted(found, key=lambda path: (ORDER.index(path.name.split(".")[0]), path.name))


def table(paths: list[Path]) -> str:
    """Return a Markdown table with one line for each comparison: difference of AUC, and the share of a loss recovered.

    A difference is bold where its interval excludes 0.
    """
    lines = ["| setting, model | training | against | AUC, all rows | seen languages | unseen languages | recovered |"]
    lines.append("|---|---|---|---|---|---|---|")
    for path in paths:
        study = load(path)
        name = (
            f"[{TITLES[path.name.split('.')[0]]}, {study.model}](../benchmarks/ablation/{path.with_suffix('.md').name})"
        )
        recovered = {each.arm: each.auc["all"] for each in study.recoveries}
        for each in study.comparisons:
            both = "unseen" in each.auc
            cells = [_signed(each.auc["all"])] + [_signed(each.auc[p]) if both else "" for p in ("seen", "unseen")]
            share = recovered.get(each.arm) if each.against.startswith(("dirty labels", "5 %")) else None
            cells.append("" if share is None else f"{share:.2f}")
            lines.append(f"| {name} | {each.arm} | {each.against} | {' | '.join(cells)} |")
            name = ""
    return "\n".join(lines)


def _signed(found: Interval) -> str:
    text = f"{found:+.3f}"
    significant = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
    return f"**{text}**" if significant else text


if __name__ == "__main__":
    print(table(files()))
