"""What the features of a pair cost beside its tokens: `python benchmarks/serving/prior_cost.py OUT.json`

CPU time per pair, with and without category prior and lexical overlap, the best of several rounds: the service's plan
of a request whose texts are all in the token cache (event loop), the same where all candidates are new (a thread, or
the event loop for few texts), and the arrays of a batch of 32. The tokenizer is that of the packaged encoder; no model
runs. The table has 5,000 paths of three levels; requests have 100 candidates.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from results.report import about, write

from relevance.model.card import TOKENIZER_FILE
from relevance.model.inputs import PairInputs
from relevance.model.prior import CategoryPrior
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.tokenization import PairTokenizer
from service.scoring.tokenization import TokenCache, TokenizationPlan
from training.models.base.base_models import resolve_base_model

PATHS, CANDIDATES, BATCH, ROUNDS, REPEATS = 5000, 100, 32, 15, 20


def path(number: int) -> str:
    """Return one of the category paths."""
    return f"Department {number % 20},Shelf {number % 400} & more,Article kind {number}"


def microseconds(work: Callable[[int], object], pairs: int) -> float:
    """Return the CPU time per pair of work that is given the number of its repeat."""
    best = float("inf")
    for turn in range(ROUNDS):
        began = time.process_time()
        for repeat in range(REPEATS):
            work(turn * REPEATS + repeat)
        best = min(best, time.process_time() - began)
    return round(1e6 * best / REPEATS / pairs, 2)


def costs(inputs: PairInputs) -> dict[str, float]:
    """Return microseconds per pair of each part."""
    cache = TokenCache(1_000_000)
    known = [Pair("coffee cup", path(number), "en") for number in range(CANDIDATES)]

    def planned(pairs: list[Pair], held: TokenCache) -> object:
        plan = TokenizationPlan(pairs, inputs, held)
        return plan.join(plan.encode())

    planned(known, cache)
    tokens = inputs.encode(known[:BATCH])
    new = [[Pair("coffee cup", path(CANDIDATES * n + i), "en") for i in range(CANDIDATES)] for n in range(50)]
    return {
        "candidates in the cache": microseconds(lambda _: planned(known, cache), CANDIDATES),
        "new candidates": microseconds(lambda n: planned(new[n % len(new)], TokenCache(0)), CANDIDATES),
        "arrays of a batch": microseconds(lambda _: inputs.tokenizer.collate(tokens), BATCH),
    }


def main(arguments: list[str]) -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    folder = Path(resolve_base_model("packaged:multilingual-e5-small").path)
    tokenizer = PairTokenizer.from_file(folder / TOKENIZER_FILE, 64, 1)
    table = CategoryPrior.of(
        [path(number).split(",") for number in range(PATHS)], [0.7] * PATHS, [3.0] * PATHS, folds=5
    )
    found = {
        name: costs(PairInputs(Task.QC, PairFormat(), tokenizer, overlap, prior))
        for name, overlap, prior in (
            ("tokens alone", False, None),
            ("prior", False, table),
            ("overlap", True, None),
            ("overlap and prior", True, table),
        )
    }
    write(about(arguments) | {"microseconds_per_pair": found}, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
