"""One checkpoint in each precision, measured on this machine: parity, AUC, size and speed, and which one to serve.

Knows no training. Each bundle comes from `relevance export` in a process of its own; they stay in the output folder.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from relevance.errors import InputError
from relevance.evaluation.metrics import auc
from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.model.openvino_model import OpenVinoModel, why_not_bf16
from relevance.model.session import CUDA, BundleSession, onnxruntime
from relevance.storage.files import whole_folder
from relevance.storage.outputs import check_outputs
from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair
from relevance.text.tokenization import TokenizedPair, batches

log = logging.getLogger(__name__)

RESULT_FILE = "precisions.json"
LARGEST_SHIFT, LARGEST_LOSS = 0.02, 0.003  # of a score at the 99th percentile, and of AUC, of what is recommended
ROUNDS, BATCH_TOKENS, MAX_PAIRS = 3, 512, 1000
Logits = NDArray[np.float64]
Run = Callable[[Sequence[TokenizedPair]], Logits]


class Measured(StrictModel):
    """One precision. Differences and `times_fp32` are to fp32 in onnxruntime; speed is of one core, or of the GPU."""

    precision: str
    runtime: str
    megabytes: float
    pairs_per_second: float
    times_fp32: float
    largest_logit_difference: float
    score_shift_p99: float
    auc: float | None


class Precisions(StrictModel):
    """What each precision of a checkpoint gives, which were left out and why, and which one to serve."""

    pairs: int
    measured: tuple[Measured, ...]
    left_out: dict[str, str]
    recommended: str
    reason: str

    @classmethod
    def of(cls, pairs: int, measured: Sequence[Measured], left_out: Mapping[str, str]) -> Self:
        """Recommend the fastest whose scores and AUC are near those of fp32, the first of `measured`."""
        fp32 = measured[0]
        near = [each for each in measured if _is_near(each, fp32)]
        best = max(near, key=lambda each: each.pairs_per_second)
        limits = f"99 % of the scores move by {LARGEST_SHIFT} or less"
        limits += "" if fp32.auc is None else f" and the AUC falls by {LARGEST_LOSS} or less"
        reason = f"the fastest of those where {limits}: {best.times_fp32:.2f} times fp32"
        return cls(
            pairs=pairs,
            measured=tuple(measured),
            left_out=dict(left_out),
            recommended=f"{best.precision} in {best.runtime}",
            reason=reason,
        )

    def table(self) -> Table:
        """Return what was measured as a table."""
        table = Table(title=f"{self.pairs} pairs", caption=f"serve {self.recommended}: {self.reason}")
        columns = ("precision", "runtime", "MB", "pairs/s", "times fp32", "largest logit difference")
        for column in (*columns, "score shift, p99", "AUC"):
            table.add_column(column, justify="left" if column in columns[:2] else "right", no_wrap=True)
        for each in self.measured:
            area = "" if each.auc is None else f"{each.auc:.4f}"
            speed = f"{each.pairs_per_second:.0f}", f"{each.times_fp32:.2f}"
            parity = f"{each.largest_logit_difference:.4f}", f"{each.score_shift_p99:.4f}"
            table.add_row(each.precision, each.runtime, f"{each.megabytes:.0f}", *speed, *parity, area)
        return table


@dataclass(frozen=True, slots=True)
class _Way:
    """A bundle in a runtime, and the clock that its speed is measured with."""

    bundle: Bundle
    runtime: str
    run: Run
    clock: Callable[[], float]


def compare_precisions(checkpoint: Path, out: Path, rows: Sequence[LabeledPair], *, overwrite: bool) -> Precisions:
    """Export a checkpoint in each precision into the folder `out`, and measure each on labelled rows.

    At most the first 1,000 rows count. Raises InputError without rows, and where fp32 cannot be exported.
    """
    check_outputs([out], [checkpoint], overwrite=overwrite)
    if not rows:
        raise InputError("no labelled rows to compare precisions on; expected at least one")
    rows = rows[:MAX_PAIRS]
    on_gpu = CUDA in onnxruntime.get_available_providers()
    with whole_folder(out) as folder:
        left_out = {} if on_gpu else {"fp16": "it is for GPUs, and onnxruntime offers none here"}
        for precision in ("fp32", "int8", *(["fp16"] if on_gpu else [])):
            if fault := _export(checkpoint, folder / precision, precision):
                left_out[precision] = fault
        if "fp32" in left_out:
            raise InputError(f"checkpoint {checkpoint}: {left_out['fp32']}")
        ways = [_in_onnxruntime(folder / each) for each in ("fp32", "int8", "fp16") if each not in left_out]
        if (reason := why_not_bf16(ways[0].bundle)) is None:
            ways.insert(1, _in_openvino(ways[0].bundle))
        else:
            left_out["fp32 in OpenVINO, as bf16"] = reason
        found = Precisions.of(len(rows), _measure(ways, rows), left_out)
        (folder / RESULT_FILE).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return found


def _is_near(one: Measured, fp32: Measured) -> bool:
    worse = fp32.auc is not None and one.auc is not None and one.auc < fp32.auc - LARGEST_LOSS
    return one.score_shift_p99 <= LARGEST_SHIFT and not worse


def _export(checkpoint: Path, bundle: Path, precision: str) -> str | None:
    """Export a checkpoint; return the error of the command, None where there is none."""
    command = [sys.executable, "-m", "relevance", "export", str(checkpoint), str(bundle), "--precision", precision]
    log.info("%s: exporting", precision)
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"export ended with status {done.returncode}") if done.returncode else None


def _in_onnxruntime(folder: Path) -> _Way:
    bundle = Bundle.open(folder)
    on_gpu = bundle.manifest.precision == "fp16"
    session = BundleSession.open(bundle, 1, "cuda" if on_gpu else "cpu")
    run = lambda pairs: session.logits(pairs).astype(np.float64)  # noqa: E731
    return _Way(bundle, "onnxruntime", run, time.perf_counter if on_gpu else time.process_time)


def _in_openvino(bundle: Bundle) -> _Way:
    model, tokenizer = OpenVinoModel(bundle, 1), bundle.tokenizer()

    def run(pairs: Sequence[TokenizedPair]) -> Logits:
        arrays = tokenizer.collate(pairs)
        found = model.run({name: arrays[name] for name in bundle.manifest.input_names})
        return np.asarray(found, dtype=np.float64).reshape(-1)

    return _Way(bundle, "openvino-bf16", run, time.process_time)


def _measure(ways: Sequence[_Way], rows: Sequence[LabeledPair]) -> list[Measured]:
    """Run each way over the rows in turn, once to warm up and then ROUNDS times."""
    labels, languages = [row.label for row in rows], [row.pair.language for row in rows]
    pairs = ways[0].bundle.inputs().encode([row.pair for row in rows])
    logits = [_run(way, pairs)[0] for way in ways]
    seconds = np.array([[_run(way, pairs)[1] for way in ways] for _ in range(ROUNDS)])
    typical = np.median(seconds, axis=0)
    expected = ways[0].bundle.manifest.scores(logits[0], languages)
    found = []
    for way, own, spent in zip(ways, logits, typical, strict=True):
        shift = np.abs(way.bundle.manifest.scores(own, languages) - expected)
        found.append(
            Measured(
                precision=way.bundle.manifest.precision,
                runtime=way.runtime,
                megabytes=sum(path.stat().st_size for path in way.bundle.folder.glob(f"{MODEL_FILE}*")) / 1e6,
                pairs_per_second=len(pairs) / spent,
                times_fp32=typical[0] / spent,
                largest_logit_difference=float(np.abs(own - logits[0]).max()),
                score_shift_p99=float(np.quantile(shift, 0.99)),
                auc=auc(labels, own),
            )
        )
    return found


def _run(way: _Way, pairs: Sequence[TokenizedPair]) -> tuple[Logits, float]:
    """Return logits [N] and the seconds of CPU time, all threads counted (on a GPU: of time)."""
    found, began = np.zeros(len(pairs)), way.clock()
    for places in batches([len(pair) for pair in pairs], BATCH_TOKENS):
        found[places] = way.run([pairs[place] for place in places])
    return found, way.clock() - began
