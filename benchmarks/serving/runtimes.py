"""The two runtimes of a CPU on one core: `python benchmarks/serving/runtimes.py BUNDLE ROWS OUT.json`.

Labelled rows are run in turn, over some rounds, by onnxruntime, by OpenVINO in fp32 and by OpenVINO in bf16, on one
thread each, in batches of the lengths that the service gives each. Speed is in pairs a second of CPU time, all threads
counted: other processes then change it little. The first round, which makes OpenVINO's kernels for all shapes, is
told apart. Beside it: logits, scores and AUC, how far a pair's logit moves with its batch, and the memory of each.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results.report import about, model_of, write

from relevance.evaluation.metrics import auc
from relevance.model.bundle import Bundle
from relevance.model.openvino_model import OpenVinoModel
from relevance.model.session import BundleSession
from relevance.text.tokenization import TokenizedPair
from service.batch_shape import CPU_SHAPE, OPENVINO_SHAPE, BatchShape
from service.observability.metrics import resident_bytes
from training.data.dataset import read_pairs

RUNTIMES = ("onnxruntime", "openvino-f32", "openvino-bf16")
ROUNDS, PROBES, MATES = 3, 8, (1, 3, 7, 15)
Run = Callable[[Sequence[TokenizedPair], int], NDArray[np.float64]]


def opened(bundle: Bundle, runtime: str) -> Run:
    """Return what gives the logits [B] of pairs padded to a width, on one thread."""
    names, output, tokenizer = bundle.manifest.input_names, bundle.manifest.output_name, bundle.tokenizer()
    if runtime == "onnxruntime":
        session = BundleSession.start(bundle, 1, "cpu").session
        infer = lambda feeds: session.run([output], feeds)[0]  # noqa: E731
    else:
        infer = OpenVinoModel(bundle, 1, 1, "bf16" if runtime == "openvino-bf16" else "f32").run

    def run(pairs: Sequence[TokenizedPair], width: int) -> NDArray[np.float64]:
        arrays = tokenizer.collate(pairs, width)
        return np.asarray(infer({name: arrays[name] for name in names}), dtype=np.float64).reshape(-1)

    return run


def all_logits(run: Run, pairs: Sequence[TokenizedPair], shape: BatchShape) -> tuple[NDArray[np.float64], float]:
    """Return the logits of pairs, run from the longest on, and the seconds of CPU time."""
    order = sorted(range(len(pairs)), key=lambda place: -len(pairs[place]))
    found, start, began = np.zeros(len(pairs)), 0, time.process_time()
    while start < len(order):
        width = shape.padded_length(len(pairs[order[start]]))
        places = order[start : start + shape.max_rows(width)]
        found[places] = run([pairs[place] for place in places], width)
        start += len(places)
    return found, time.process_time() - began


def batch_shift(run: Run, pairs: Sequence[TokenizedPair], shape: BatchShape) -> float:
    """Return how far the logit of a pair moves, at most, beside others."""
    rng, moved = np.random.default_rng(0), []
    for probe in pairs[:PROBES]:
        logits = []
        for mates in (0, *MATES):
            batch = [probe, *(pairs[place] for place in rng.choice(len(pairs), mates, replace=False))]
            logits.append(run(batch, shape.padded_length(max(map(len, batch))))[0])
        moved.append(np.ptp(logits))
    return float(max(moved))


def memory_mb(bundle: Path, rows: Path, pairs: int, runtime: str) -> dict[str, float]:
    """Return the resident memory of a process of its own: with the model, and after all batches."""
    command = [sys.executable, __file__, str(bundle), str(rows), "-", "--pairs", str(pairs), "--memory", runtime]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def measure(bundle: Bundle, rows: Path, count: int) -> dict[str, Any]:
    """Return what each runtime gives and costs."""
    labelled = read_pairs(rows, bundle.manifest.task).rows[:count]
    pairs = bundle.inputs().encode([row.pair for row in labelled])
    labels, languages = [row.label for row in labelled], [row.pair.language for row in labelled]
    runs = {runtime: opened(bundle, runtime) for runtime in RUNTIMES}
    shapes = {runtime: CPU_SHAPE if runtime == "onnxruntime" else OPENVINO_SHAPE for runtime in RUNTIMES}
    shapes = {runtime: shape.limited_to(bundle.manifest.max_length) for runtime, shape in shapes.items()}
    first = {runtime: all_logits(runs[runtime], pairs, shapes[runtime]) for runtime in RUNTIMES}
    seconds: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    for _ in range(ROUNDS):
        for runtime in RUNTIMES:
            seconds[runtime].append(all_logits(runs[runtime], pairs, shapes[runtime])[1])
    expected, found = first["onnxruntime"][0], {}
    speed = {runtime: len(pairs) / float(np.median(each)) for runtime, each in seconds.items()}
    for runtime in RUNTIMES:
        logits = first[runtime][0]
        moved = np.abs(bundle.manifest.scores(logits, languages) - bundle.manifest.scores(expected, languages))
        found[runtime] = {
            "pairs_per_cpu_second": round(speed[runtime], 1),
            "of_onnxruntime": round(speed[runtime] / speed["onnxruntime"], 3),
            "rounds": [round(len(pairs) / each, 1) for each in seconds[runtime]],
            "first_round": round(len(pairs) / first[runtime][1], 1),
            "largest_logit_difference": float(np.abs(logits - expected).max()),
            "mean_logit_difference": float(np.abs(logits - expected).mean()),
            "score_shift_p99": float(np.quantile(moved, 0.99)),
            "auc": auc(labels, logits),
            "largest_logit_shift_by_batch": batch_shift(runs[runtime], pairs, shapes[runtime]),
            "memory_mb": memory_mb(bundle.folder, rows, count, runtime),
        }
    return {"pairs": len(pairs), "tokens_a_pair": float(np.mean([len(pair) for pair in pairs])), "runtimes": found}


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "rows", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--memory", choices=RUNTIMES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    bundle = Bundle.open(given.bundle)
    if given.memory:
        run = opened(bundle, given.memory)
        loaded = resident_bytes() // 2**20
        rows = read_pairs(given.rows, bundle.manifest.task).rows[: given.pairs]
        shape = CPU_SHAPE if given.memory == "onnxruntime" else OPENVINO_SHAPE
        all_logits(
            run, bundle.inputs().encode([row.pair for row in rows]), shape.limited_to(bundle.manifest.max_length)
        )
        print(json.dumps({"loaded": loaded, "after_all_batches": resident_bytes() // 2**20}))
        return
    import openvino

    head = {**about(arguments), "openvino": openvino.__version__, "model": model_of(bundle)}
    write({**head, **measure(bundle, given.rows, given.pairs)}, given.out)


if __name__ == "__main__":
    main(sys.argv[1:])
