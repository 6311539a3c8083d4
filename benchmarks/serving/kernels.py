"""What the choice of CPU kernels is worth: `python benchmarks/serving/kernels.py CHECKPOINT ROWS OUT.json`.

Exports a checkpoint twice, with the fused operators that onnxruntime's optimiser makes and with those of
`export.cpukernels`, and runs both in turn over real pairs sorted by length, in batches of 256 tokens: one run after
another with all cores, and one run for each core side by side. Also the time of each kind of operator on one core.
Ratios are of this run only; logits must be equal.
"""

import argparse
import collections
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results.report import about, write

import export.onnx as exporting
from export.checkpoint import Checkpoint
from relevance.model.cores import usable_cores
from relevance.model.session import onnxruntime
from relevance.text.tokenization import TokenizedPair
from training.data.dataset import read_pairs

BATCH_TOKENS, ROUNDS = 256, 4
Batches = list[dict[str, np.ndarray]]


def batches_of(source: Checkpoint, pairs: Sequence[TokenizedPair]) -> Batches:
    """Return the inputs of all batches, pairs sorted by length."""
    batches, start = [], 0
    pairs = sorted(pairs, key=lambda pair: -len(pair.input_ids))
    while start < len(pairs):
        rows = pairs[start : start + max(1, BATCH_TOKENS // len(pairs[start].input_ids))]
        arrays = source.tokenizer.collate(rows)
        batches.append({name: arrays[name] for name in source.scorer.input_names})
        start += len(rows)
    return batches


def session(path: Path, threads: int, profile: str = "") -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling, options.profile_file_prefix = bool(profile), profile
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(model: onnxruntime.InferenceSession, batches: Batches, side_by_side: int) -> tuple[np.ndarray, float]:
    """Return all logits and the seconds it took."""
    found: list[np.ndarray] = [np.zeros(0)] * len(batches)
    places = iter(range(len(batches)))

    def work() -> None:
        for place in places:
            found[place] = model.run(None, batches[place])[0].reshape(-1)

    threads = [threading.Thread(target=work) for _ in range(side_by_side)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate(found), time.perf_counter() - began


def operators(path: Path, batches: Batches, folder: Path) -> dict[str, float]:
    """Return the share of the time of each kind of operator on one core, and all of it in seconds."""
    model = session(path, 1, str(folder / "profile"))
    run(model, batches, 1)
    spent: collections.Counter[str] = collections.Counter()
    for event in json.loads(Path(model.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return {"seconds": spent.total() / 1e6} | {name: us / spent.total() for name, us in spent.most_common(8)}


def measure(source: Checkpoint, batches: Batches, pairs: int, folder: Path) -> dict[str, Any]:
    """Return pairs a second of both graphs, in turn, and their operators."""
    graphs = {"fused": folder / "fused.onnx", "chosen": folder / "chosen.onnx"}
    exporting.write_onnx(source.scorer, graphs["chosen"], "fp32")
    exporting.use_fast_cpu_kernels = lambda graph: 0
    exporting.write_onnx(source.scorer, graphs["fused"], "fp32")
    cores = usable_cores()
    ways = {"one_after_another": (cores, 1), "side_by_side": (1, cores)}
    models = {(graph, way): session(path, ways[way][0]) for graph, path in graphs.items() for way in ways}
    speeds: dict[tuple[str, str], list[float]] = {each: [] for each in models}
    logits = {}
    for _ in range(ROUNDS):
        for (graph, way), model in models.items():
            logits[graph, way], seconds = run(model, batches, ways[way][1])
            speeds[graph, way].append(pairs / seconds)
    first = logits["fused", "one_after_another"]
    return {
        "pairs_per_second": {
            graph: {way: [round(each, 1) for each in speeds[graph, way]] for way in ways} for graph in graphs
        },
        "chosen_over_fused": {
            way: float(np.median(speeds["chosen", way]) / np.median(speeds["fused", way])) for way in ways
        },
        "largest_logit_difference": max(float(np.abs(each - first).max()) for each in logits.values()),
        "operators": {graph: operators(path, batches, folder) for graph, path in graphs.items()},
    }


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "rows", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args(arguments)
    source = Checkpoint.open(options.checkpoint)
    rows = read_pairs(options.rows, source.card.task).rows[: options.pairs]
    tokens = source.inputs.encode([row.pair for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        found = measure(source, batches_of(source, tokens), len(rows), Path(folder))
    write({**about(arguments), "model": source.card.name, "pairs": len(rows), **found}, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
