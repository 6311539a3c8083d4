"""The page of tables that `measure.py` writes beside its JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAMES = {"bm25": "BM25", "model": "re-ranked", "blend": "blend"}
TITLES = {
    "shop": "The sample shop (SYNTHETIC: it shows how this is measured, not how good a model is)",
    "home_depot": "Home Depot: real English queries, each with its judged titles as its list",
}


def page(result: Mapping[str, Any]) -> str:
    """Return Markdown with the tables of a result."""
    bundle, machine = result["bundle"], result["machine"]
    where = f"{machine['cpus']} cores, {machine['device']}, load {machine['load']}"
    lines = [
        "# What re-ranking is worth",
        "",
        f"`{result['command']}`, {result['created'][:10]}, bundle {bundle['name']} version {bundle['version']},",
        f"{where}. In brackets: 95 % intervals over queries.",
    ]
    for name, title in TITLES.items():
        if name in result:
            lines += ["", f"## {title}", "", *_study(result[name])]
    return "\n".join(lines) + "\n"


def _study(study: Mapping[str, Any]) -> Iterator[str]:
    queries, weight = study["queries"], study["blend_weight"]
    yield f"{queries['reported']} queries; {queries['tuning']} others chose the weight {weight} of the blend."
    yield from ("", "| order | nDCG@10 | MRR@10 | nDCG gained over BM25 |", "|---|---|---|---|")
    for name, title in NAMES.items():
        gain = _cell(study["ndcg_gain"][name]) if name in study["ndcg_gain"] else ""
        yield f"| {title} | {_cell(study['ndcg_at_10'][name])} | {_cell(study['mrr_at_10'][name])} | {gain} |"
    yield from (
        "",
        "| candidates scored | re-ranked | gain | blend | gain | p50 | p95 |",
        "|---|---|---|---|---|---|---|",
    )
    for row in study["curve"]:
        values = [_cell(row[key]) for key in ("model", "model_gain", "blend", "blend_gain")]
        values += [f"{row[key]:.1f} ms" if key in row else "" for key in ("p50_ms", "p95_ms")]
        yield f"| {row['candidates']} | {' | '.join(values)} |"
    if study["search"]:
        yield from ("", f"The search itself takes {study['search']['p50_ms']} ms (p95 {study['search']['p95_ms']} ms).")
    if not study["languages"]:
        yield from ("", "No language has enough queries to say anything of it alone: raise --queries.")
        return
    yield from (
        "",
        "| language | queries | BM25 | blend | gain | advice by the tuning queries | advice of the bundle |",
    )
    yield "|---|---|---|---|---|---|---|"
    for code, row in study["languages"].items():
        values = " | ".join(_cell(row[key]) for key in ("bm25", "blend", "gain"))
        yield f"| {code} | {row['queries']} | {values} | {row['advice']} | {row['advice_of_the_bundle'] or '-'} |"


def _cell(found: Sequence[float | None]) -> str:
    value, low, high = found
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
