"""Training speed beside sentence_transformers.CrossEncoderTrainer, in alternating runs, each in a process of its own.

    python benchmarks/training/compare.py [--rounds 3] [--rows 2000] [--threads N] [--out FILE.json]

Needs `pip install -r benchmarks/training/requirements.txt`. Both train the packaged encoder cut to 6 layers with its
stock classification head on the same rows of the SYNTHETIC sample: batches of 32, one epoch, 64 tokens at most, one
learning rate, 10 % warm-up. Measured is the whole of training, with tokenisation, without loading and scoring dev.
The AUC is that of 1,000 dev rows. Pairs by CPU second are the fairer number where other work runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relevance.evaluation.metrics import auc
from relevance.model.cores import processor, usable_cores
from relevance.tasks import LabeledPair, Task
from training.data.provenance import now, source_commit
from training.threads import PASSIVE, others_busy

HERE = Path(__file__).parent
BASE, LAYERS = "packaged:multilingual-e5-small", 6
BATCH, LENGTH, RATE, WARMUP = 32, 64, 1e-4, 0.1
SIDES = ("ours", "sentence_transformers")


def main() -> None:
    """Run every arm in alternating rounds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--words", nargs="+", default=["frozen", "trained"], help="what is done to word embeddings")
    parser.add_argument("--out", type=Path, default=HERE / "compare.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(*options.one.split(","), rows=options.rows)))
        return
    arms = [(s, w, p) for w in options.words for p in options.precisions for s in SIDES]
    content = {"command": " ".join(sys.argv), "created": now(), "source_commit": source_commit(), "machine": machine()}
    content |= {"rows": options.rows, "threads": options.threads, "table": [], "runs": []}
    for number in range(options.rounds):
        for arm in arms:
            content["runs"].append({"round": number} | measure(arm, options))
            print(content["runs"][-1], file=sys.stderr, flush=True)
        content["table"] = table(content["runs"])
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content["table"], indent=1))


def measure(arm: tuple[str, str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Train once in a new process, threads and their waiting the same for both sides; return what it says."""
    environment = os.environ | PASSIVE | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    busy = others_busy(1.0)
    command = [sys.executable, __file__, "--one", ",".join(arm), "--rows", str(options.rows)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr[-2000:]}")
    return {"side": arm[0], "words": arm[1], "precision": arm[2], "others_busy": round(busy, 2)} | json.loads(
        done.stdout.splitlines()[-1]
    )


def run_one(side: str, words: str, precision: str, *, rows: int) -> dict[str, Any]:
    """Train one side; return pairs a second, by wall time and by CPU time, and the dev AUC."""
    from training.models.base.base_models import resolve_base_model
    from training.models.base.prepared import EncoderOptions, prepare_encoder
    from training.sample.generate import SampleSettings, generate
    from training.sample.shop import load_shop

    made = generate(Task.QC, SampleSettings(), load_shop())
    train, dev = made["train"][:rows], made["dev"]
    with tempfile.TemporaryDirectory() as folder:
        prepare_encoder(resolve_base_model(BASE), Path(folder) / "base", EncoderOptions(LAYERS))
        job = {"ours": ours, "sentence_transformers": peer}[side]
        seconds, cpu, logits = job(Path(folder), (train, dev), words == "frozen", precision)
    found = auc([row.label for row in dev], logits)
    return {
        "pairs_per_second": round(len(train) / seconds, 1),
        "pairs_per_cpu_second": round(len(train) / cpu, 1),
        "dev_auc": None if found is None else round(found, 4),
    }


Sets = tuple[Sequence[LabeledPair], Sequence[LabeledPair]]


def ours(folder: Path, sets: Sets, frozen: bool, precision: str) -> tuple[float, float, np.ndarray]:
    """Train with training.fitting.loop.finetune."""
    import torch

    from relevance.model.inputs import PairInputs
    from relevance.text.formatting import PairFormat
    from training.fitting.loop.finetune import FineTuner
    from training.fitting.recipe import TrainingSection
    from training.fitting.rows.examples import Examples, store_examples
    from training.fitting.rows.truncation import encode_rows
    from training.models.cross_encoder import CrossEncoder, load_tokenizer, predict_logits
    from training.models.options import HeadOptions

    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder / "base", LENGTH)
    model = CrossEncoder.from_base(folder / "base", tokenizer, HeadOptions(kind="stock"))
    if frozen:
        model.freeze_word_embeddings()
    rates = {"learning_rate": RATE, "head_learning_rate": RATE, "warmup_share": WARMUP}
    section = TrainingSection(batch_size=BATCH, max_length=LENGTH, evaluations=1, precision=precision, **rates)

    inputs = PairInputs(Task.RERANK, PairFormat(as_is=True), tokenizer)

    def examples(name: str, rows: Sequence[LabeledPair]) -> Examples:
        return store_examples(folder / name, rows, encode_rows(inputs, rows, name))

    tuner = FineTuner(model, tokenizer, section, 0, folder)
    begun, cpu = time.monotonic(), time.process_time()
    tuner.run(examples("train", sets[0]), examples("some", sets[1][:8]))
    spent = time.monotonic() - begun, time.process_time() - cpu
    return *spent, predict_logits(model, tokenizer, examples("dev", sets[1]).pairs)


def peer(folder: Path, sets: Sets, frozen: bool, precision: str) -> tuple[float, float, np.ndarray]:
    """Train with sentence_transformers, everything else as it comes."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    model = CrossEncoder(str(folder / "base"), num_labels=1, max_length=LENGTH)
    if frozen:
        model.model.get_input_embeddings().weight.requires_grad_(False)
    columns = {
        "query": [row.pair.query for row in sets[0]],
        "candidate": [row.pair.candidate for row in sets[0]],
        "label": [float(row.label) for row in sets[0]],
    }
    arguments = CrossEncoderTrainingArguments(
        str(folder / "out"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=RATE,
        warmup_ratio=WARMUP,
        bf16=precision == "bf16",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = CrossEncoderTrainer(
        model, arguments, train_dataset=Dataset.from_dict(columns), loss=BinaryCrossEntropyLoss(model)
    )
    begun, cpu = time.monotonic(), time.process_time()
    trainer.train()
    spent = time.monotonic() - begun, time.process_time() - cpu
    return *spent, np.asarray(model.predict([(row.pair.query, row.pair.candidate) for row in sets[1]]))


def table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return medians of each side by words and precision, and our ratio to the other side."""
    lines = []
    for words, precision in dict.fromkeys((run["words"], run["precision"]) for run in runs):
        line: dict[str, Any] = {"word_embeddings": words, "precision": precision}
        for name in ("pairs_per_second", "pairs_per_cpu_second", "dev_auc"):
            medians = [
                float(np.median([r[name] for r in runs if (r["side"], r["words"], r["precision"]) == arm]))
                for arm in ((side, words, precision) for side in SIDES)
            ]
            line[name] = dict(zip(SIDES, medians, strict=True))
            if name != "dev_auc":
                line[name]["ratio"] = round(medians[0] / medians[1], 2)
        lines.append(line)
    return lines


def machine() -> dict[str, Any]:
    """Return processor, cores and versions."""
    from importlib.metadata import version

    packages = ("torch", "transformers", "sentence-transformers")
    return {"processor": processor(), "cores": usable_cores()} | {name: version(name) for name in packages}


if __name__ == "__main__":
    main()
