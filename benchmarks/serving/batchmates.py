"""How far a pair's score depends on its batch: `python benchmarks/serving/batchmates.py BUNDLE.. --rows ROWS --out OUT`

Padding moves the last bits of a score, and rounding to 8 bits makes that visible. Each of some pairs is scored alone,
then in random batches of random size; told is how far its score and its logit move. Rows are as `relevance score` reads
them. An fp32 bundle shows what padding alone does. No timing: other processes may run.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from results.report import about, model_of, pairs_of, write

from relevance.model.bundle import Bundle
from relevance.model.session import BundleSession
from relevance.text.tokenization import TokenizedPair

PROBES, MOST_MATES = 4, 31


def shifts(session: BundleSession, pool: list[TokenizedPair], batches: int, seed: int) -> dict[str, float | int]:
    """Return how far score and logit of each of the first PROBES pairs move over random batches."""
    rng = np.random.default_rng(seed)
    mates = pool[PROBES:]
    logits = np.zeros((PROBES, batches + 1))
    for probe, pair in enumerate(pool[:PROBES]):
        logits[probe, 0] = session.logits([pair])[0]
        for number in range(1, batches + 1):
            chosen = rng.choice(len(mates), size=int(rng.integers(1, MOST_MATES + 1)), replace=False)
            logits[probe, number] = session.logits([pair, *(mates[each] for each in chosen)])[0]
    scores = session.bundle.manifest.scores(logits)
    labels = scores >= session.bundle.manifest.threshold
    return {
        "largest_score_difference_of_a_pair": float(np.ptp(scores, axis=1).max()),
        "mean_score_difference_of_a_pair": float(np.ptp(scores, axis=1).mean()),
        "largest_score_shift_from_alone": float(np.abs(scores - scores[:, :1]).max()),
        "largest_logit_difference_of_a_pair": float(np.ptp(logits, axis=1).max()),
        "pairs_with_both_labels": int((labels.any(axis=1) & ~labels.all(axis=1)).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="+", help="bundles of one task, as int8 and fp32 of one checkpoint")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=1000, help="of each pair")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    results = []
    for folder in given.bundle:
        bundle = Bundle.open(folder)
        session = BundleSession.open(bundle, threads=1, device="cpu")
        pool = session.inputs.encode(pairs_of(given.rows, bundle))
        results.append(model_of(bundle) | shifts(session, pool, given.batches, given.seed))
    counts = {"pairs": PROBES, "batches_a_pair": given.batches, "most_others_in_a_batch": MOST_MATES}
    write(about(sys.argv[1:]) | counts | {"bundles": results}, given.out)


if __name__ == "__main__":
    main()
