"""What a consistent hash before replicas is worth: `python benchmarks/serving/consistent_hash.py`.

Two services on this machine with a cache of scores, and HAProxy before them: once with `deploy/haproxy/haproxy.cfg`,
once with `balance roundrobin` in it. Queries come by Zipf's law (exponent 1) out of `--queries`, each with the same
ten candidates. Counts come from the services: pairs that a cache of scores had. Writes `consistent_hash.json` beside
this file.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, which is no part of the package

import httpx

from tests.haproxy import CONFIG, balancer, cached_pairs
from tests.serving import running
from tests.tiny import tiny_bundle
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
CANDIDATES = [f"home,kitchen,cups {n}" for n in range(10)]


def share(config: str, folder: Path, queries: list[str]) -> float:
    """Return the share of pairs that a cache had, with fresh services."""
    bundles = {"qc": folder / "qc"}
    with (
        running(bundles, score_cache_pairs=100_000) as one,
        running(bundles, score_cache_pairs=100_000) as two,
        balancer(folder, config, urls := [one.wait_ready(), two.wait_ready()]) as url,
        httpx.Client() as client,
    ):
        for query in queries:
            body = {"task": "qc", "query": query, "language": "en", "candidates": CANDIDATES}
            client.post(f"{url}/v1/score", json=body, timeout=60).raise_for_status()
        hits = sum(cached_pairs(each)[0] for each in urls)
    return round(hits / (len(queries) * len(CANDIDATES)), 3)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--out", type=Path, default=HERE / "consistent_hash.json")
    options = parser.parse_args()
    weights = [1 / (rank + 1) for rank in range(options.queries)]
    asked = random.Random(0).choices([f"red cup {n}" for n in range(options.queries)], weights, k=options.requests)
    config = CONFIG.read_text()
    with tempfile.TemporaryDirectory(prefix="relevance-hash-") as name:
        tiny_bundle(Path(name) / "qc")
        found = {
            "consistent_hash": share(config, Path(name), asked),
            "round_robin": share(config.replace("balance hdr(X-Query-Key)", "balance roundrobin"), Path(name), asked),
        }
    result = {
        "command": " ".join(["python benchmarks/serving/consistent_hash.py", *sys.argv[1:]]),
        "created": now(),
        "source_commit": source_commit(),
        "replicas": 2,
        "requests": len(asked),
        "different_queries": len(set(asked)),
        "most_that_can_be": round(1 - len(set(asked)) / len(asked), 3),
        "share_of_pairs_that_a_cache_had": found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
