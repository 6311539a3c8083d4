"""What re-ranking is worth: `python examples/measure.py --bundle DIR` (a QI bundle). Needs the extra `examples`.

BM25 (tantivy) finds candidates; the model orders them. Measured on the synthetic sample shop and, where the folder is
there, on Home Depot's judged queries: nDCG@10 and MRR@10 of BM25, of the model, and of a blend of both, whose weight is
chosen on other queries than those reported; by language, with the advice where to keep BM25's order; over the number of
candidates scored, with the time that scoring takes. Prints the page, and writes JSON, page and plot to
build/ranking/results.*; `--out benchmarks/ranking/results.json` renews the committed ones.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lists import HOME_DEPOT, Floats, QueryList, home_depot_lists, shop_lists
from orders import Judged, best_weight, blended, mean
from page import page
from plot import plot

from relevance import Scorer
from relevance.evaluation.intervals import Interval
from relevance.evaluation.soundness import Advice
from relevance.model.cores import processor
from training.data.provenance import now, source_commit

OUT = Path("build/ranking/results.json")
WEIGHTS = [round(0.05 * step, 2) for step in range(21)]
DEPTHS = (0, 5, 10, 20, 30, 50, 100)
TIMED_QUERIES = 30
LEAST_QUERIES = 5  # of a language, to say anything of it


def scored(scorer: Scorer, lists: Sequence[QueryList]) -> list[Floats]:
    """Return the model's scores [N] of each list."""
    pairs = [(each.query, title, each.language) for each in lists for title in each.titles]
    ends = np.cumsum([len(each) for each in lists])
    return np.split(scorer.score(pairs).scores, ends[:-1])


def timed(scorer: Scorer, lists: Sequence[QueryList], depth: int) -> dict[str, float]:
    """Return the milliseconds that scoring the first `depth` candidates of a query takes, one query after the other."""
    chosen = [each for each in lists if len(each) >= depth][:TIMED_QUERIES]
    seconds = []
    for each in chosen:
        pairs = [(each.query, title, each.language) for title in each.titles[:depth]]
        began = time.perf_counter()
        scorer.score(pairs)
        seconds.append(time.perf_counter() - began)
    return percentiles(seconds)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile in milliseconds."""
    if not len(seconds):
        return {}
    low, high = np.percentile(1000 * np.asarray(seconds), [50, 95])
    return {"p50_ms": round(float(low), 2), "p95_ms": round(float(high), 2)}


def shown(found: Interval) -> list[float | None]:
    """Return value, low and high, rounded."""
    return [None if each is None else round(each, 4) for each in (found.value, found.low, found.high)]


class Study:
    """One data set: its lists with their scores, parted into queries that tune and queries that report."""

    def __init__(self, lists: Sequence[QueryList], scores: Sequence[Floats], depth: int) -> None:
        self.depth = depth
        sides = {tunes: [place for place, each in enumerate(lists) if each.tunes is tunes] for tunes in (True, False)}
        self.tune, self.report = (Judged([lists[place] for place in sides[tunes]]) for tunes in (True, False))
        self.tune_scores, self.scores = ([scores[place] for place in sides[tunes]] for tunes in (True, False))
        self.weight = best_weight(self.tune, self.tune_scores, WEIGHTS, depth)

    def orders(self, weight: float, depth: int) -> list[Floats]:
        """Return the orders of the queries that report."""
        parts = zip(self.report.lists, self.scores, strict=True)
        return [blended(each, scores, weight, depth) for each, scores in parts]

    def quality(self) -> dict[str, Any]:
        """Return nDCG@10 and MRR@10 of each order, and what each gains over BM25, query by query."""
        arms = {"bm25": 0.0, "model": 1.0, "blend": self.weight}
        ndcg = {name: self.report.ndcg(self.orders(weight, self.depth)) for name, weight in arms.items()}
        mrr = {name: self.report.mrr(self.orders(weight, self.depth)) for name, weight in arms.items()}
        return {
            "queries": {"tuning": len(self.tune), "reported": len(self.report)},
            "blend_weight": self.weight,
            "ndcg_at_10": {name: shown(mean(values)) for name, values in ndcg.items()},
            "mrr_at_10": {name: shown(mean(values)) for name, values in mrr.items()},
            "ndcg_gain": {name: shown(mean(ndcg[name] - ndcg["bm25"])) for name in ("model", "blend")},
            "mrr_gain": {name: shown(mean(mrr[name] - mrr["bm25"])) for name in ("model", "blend")},
        }

    def languages(self, card: dict[str, Advice]) -> dict[str, Any]:
        """Return by language what the blend gains on the reported queries, and the advice of the tuning queries."""
        found = {}
        for language in sorted({each.language for each in self.report.lists}):
            tuning, gain = (
                self._gain(self.tune, self.tune_scores, language),
                self._gain(self.report, self.scores, language),
            )
            if tuning is None or gain is None:
                continue
            bm25, blend = gain
            found[language] = {
                "queries": len(bm25),
                "bm25": shown(mean(bm25)),
                "blend": shown(mean(blend)),
                "gain": shown(mean(blend - bm25)),
                "advice": advice(mean(tuning[1] - tuning[0])),
                "advice_of_the_bundle": card.get(language),
            }
        return found

    def _gain(self, judged: Judged, scores: Sequence[Floats], language: str) -> tuple[Floats, Floats] | None:
        """Return nDCG@10 [Q] of BM25 and of the blend for the queries of a language."""
        places = [place for place, each in enumerate(judged.lists) if each.language == language]
        part = Judged([judged.lists[place] for place in places]) if places else None
        if part is None or len(part) < LEAST_QUERIES:
            return None
        chosen = [(judged.lists[place], scores[place]) for place in places]
        bm25, blend = (
            part.ndcg([blended(*each, weight, self.depth) for each in chosen]) for weight in (0.0, self.weight)
        )
        return bm25, blend

    def curve(self, scorer: Scorer) -> list[dict[str, Any]]:
        """Return nDCG@10 of model and blend, what they gain over BM25, and the time, by the number of candidates."""
        found, bm25 = [], self.report.ndcg(self.orders(0.0, self.depth))
        for depth in sorted({*(each for each in DEPTHS if each < self.depth), self.depth}):
            row: dict[str, Any] = {"candidates": depth}
            for name, weight in (("model", 1.0), ("blend", self.weight)):
                ndcg = self.report.ndcg(self.orders(weight, depth))
                row |= {name: shown(mean(ndcg)), f"{name}_gain": shown(mean(ndcg - bm25))}
            found.append(row | (timed(scorer, self.report.lists, depth) if depth else {}))
        return found


def advice(gain: Interval) -> Advice:
    """Return whether to re-rank a language, by what it gained on the tuning queries; the rule of the bundle's card."""
    if gain.value is None or gain.value <= 0:
        return Advice.KEEP_ORDER
    return Advice.RERANK if gain.low is not None and gain.low > 0 else Advice.UNPROVEN


def studied(scorer: Scorer, lists: Sequence[QueryList], depth: int) -> dict[str, Any]:
    """Return all that is measured on one data set."""
    study = Study(lists, scored(scorer, lists), depth)
    search = [each.search_seconds for each in lists if each.search_seconds]
    return {
        **study.quality(),
        "depth": depth,
        "languages": study.languages(scorer.manifest.rerank_advice),
        "curve": study.curve(scorer),
        "search": percentiles(search),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write JSON, a page and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="a QI bundle")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON to write; page and plot go beside it")
    parser.add_argument("--items", type=int, default=12, help="items of each of the shop's categories")
    parser.add_argument("--queries", type=int, default=24, help="queries of each language of the shop")
    parser.add_argument("--depth", type=int, default=50, help="candidates that BM25 gives for each query of the shop")
    parser.add_argument("--real", type=Path, default=HOME_DEPOT, help="Home Depot's dev rows; left out if missing")
    parser.add_argument("--real-queries", type=int, default=0, help="of Home Depot's; 0: all")
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0: all cores")
    options = parser.parse_args(arguments)
    if min(options.items, options.queries, options.depth) < 1 or options.real_queries < 0:
        parser.error("expected --items, --queries and --depth of 1 or more, and --real-queries of 0 or more")
    scorer = Scorer.open(options.bundle, threads=options.threads)
    card = scorer.manifest
    if card.task != "qi":
        parser.error(f"--bundle {options.bundle}: a bundle of {card.task}, expected one of qi")
    result: dict[str, Any] = {
        "command": "python examples/measure.py --bundle DIR",
        "created": now(),
        "source_commit": source_commit(),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": processor(),
            "device": scorer.device,
            "load": round(os.getloadavg()[0], 1),
        },
        "bundle": {"name": card.name, "version": card.version, "base_model": card.base_model},
        "settings": {name: getattr(options, name) for name in ("items", "queries", "depth", "real_queries", "threads")},
        "shop": studied(scorer, shop_lists(options.items, options.queries, options.depth), options.depth),
    }
    if options.real.exists():
        lists = home_depot_lists(options.real)[: options.real_queries or None]
        result["home_depot"] = studied(scorer, lists, max(map(len, lists)))
    else:
        print(f"{options.real}: not there, so nothing is measured on real queries")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(page(result), encoding="utf-8")
    plot(result, options.out.with_suffix(".svg"))
    print(page(result))


if __name__ == "__main__":
    main()
