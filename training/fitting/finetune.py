"""Fine-tuning of a cross-encoder: batches, optimiser, evaluation on dev, and snapshots to resume from.

The loop is this project's own and not transformers' Trainer, so that a resumed run ends with exactly the weights of an
uninterrupted one (docs/decisions/0002). Takes tokenised pairs and trains a model. Knows no files of rows;
training.fitting.checkpoint makes the folder.
"""

import logging
import math
import os
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relevance.errors import CheckpointError, DivergedError
from relevance.files import whole_file
from relevance.heads import HeadKind
from relevance.metrics import auc
from relevance.tokenization import PairTokenizer, TokenizedPair
from training.fitting.recipe import TrainingSection
from training.fitting.schedule import evaluation_steps, length_grouped_batches, rate_factor
from training.models.cross_encoder import CrossEncoder, predict_logits, tensors
from training.progress import Meter, Pace
from training.threads import use_free_cores

log = logging.getLogger(__name__)

STATE_FILE = "state.pt"
# Least seconds between two snapshots, largest share of the time that is spent on writing them, and largest mean rate
# of bytes (8 MB a second is half a gigabyte a minute). A snapshot waits until all three allow it.
SNAPSHOT_SECONDS = 60.0
SNAPSHOT_TIME_SHARE = 0.05
SNAPSHOT_BYTES_A_SECOND = 8e6


@dataclass(frozen=True)
class Examples:
    """Tokenised pairs, labels [N] in {0, 1} for the AUC, and targets [N] in [0, 1] and weights [N] of the loss."""

    pairs: Sequence[TokenizedPair]
    labels: Sequence[int]
    targets: Sequence[float]
    weights: Sequence[float]


@dataclass(frozen=True)
class Evaluation:
    """The result of scoring the dev set after a step."""

    step: int
    dev_auc: float
    train_loss: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended: every evaluation, the step whose weights the model now has, and their dev logits [N]."""

    evaluations: tuple[Evaluation, ...]
    best_step: int
    device: str
    precision: str
    dev_logits: NDArray[np.float32]


class FineTuner:
    """Trains one model on one set of examples; `work` holds the snapshot from which an interrupted run resumes."""

    def __init__(
        self, model: CrossEncoder, tokenizer: PairTokenizer, section: TrainingSection, seed: int, work: Path
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.tokenizer = tokenizer
        self.section = section
        self.seed = seed
        self.work = work
        self.precision = _resolve_precision(section.precision, self.device)
        self._optimizer = torch.optim.AdamW(_parameter_groups(model, section))
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self._evaluations: list[Evaluation] = []
        self._best: dict[str, Tensor] = {}
        self._best_logits = torch.zeros(0)
        self._loss_sum, self._loss_steps = 0.0, 0
        self._threads = use_free_cores()
        self._saved_at, self._wait_seconds = time.monotonic(), SNAPSHOT_SECONDS

    def run(self, train: Examples, dev: Examples) -> Outcome:
        """Train to the end or the early stop, then load the weights with the best dev AUC into the model."""
        batches_an_epoch = -(-len(train.pairs) // self.section.batch_size)
        steps = max(1, round(batches_an_epoch * self.section.epochs))
        marks = evaluation_steps(steps, self.section.evaluations)
        torch.manual_seed(self.seed)
        begun = self._restore()
        lengths = [len(pair) for pair in train.pairs]
        pairs = int(len(lengths) * self.section.epochs)
        batches: list[list[int]] = []
        with Meter("training", pairs, "pairs", min(begun * self.section.batch_size, pairs), Pace("pairs")) as meter:
            for step in range(begun, steps):
                epoch, place = divmod(step, batches_an_epoch)
                if place == 0 or not batches:
                    batches = length_grouped_batches(lengths, self.section.batch_size, self.seed + 7919 * epoch)
                self._set_rate(rate_factor(step, steps, self.section.warmup_share))
                loss = self._step(train, batches[place])
                meter.advance(len(batches[place]), f"loss {loss:.3f}")
                with meter.paused():
                    if step + 1 in marks:
                        self._evaluate(step + 1, dev)
                    if time.monotonic() - self._saved_at > self._wait_seconds:
                        self._snapshot(step + 1)
                if self._out_of_patience():
                    log.info("early stop after step %d: no better dev AUC in %d", step + 1, self.section.patience)
                    break
        return self._finish()

    def _step(self, train: Examples, rows: list[int]) -> float:
        self.model.train()
        inputs = tensors(self.tokenizer, [train.pairs[i] for i in rows], self.device)
        targets = torch.tensor([train.targets[i] for i in rows], device=self.device)
        weights = torch.tensor([train.weights[i] for i in rows], device=self.device)
        smooth = self.section.label_smoothing
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            logits = self.model(**inputs)
        targets = targets * (1 - smooth) + smooth / 2
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, weight=weights)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"training loss {value}: expected a finite number; lower training.learning_rate")
        self._loss_sum, self._loss_steps = self._loss_sum + value, self._loss_steps + 1
        return value

    def _set_rate(self, factor: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor

    def _evaluate(self, step: int, dev: Examples) -> None:
        logits = predict_logits(self.model, self.tokenizer, dev.pairs)
        if not np.isfinite(logits).all():
            raise DivergedError(f"dev logits after step {step} are not finite; lower training.learning_rate")
        dev_auc = auc(dev.labels, logits)
        evaluation = Evaluation(step, float("nan") if dev_auc is None else dev_auc, self._loss_sum / self._loss_steps)
        log.info("step %d: train loss %.4f, dev AUC %.4f", step, evaluation.train_loss, evaluation.dev_auc)
        self._loss_sum, self._loss_steps = 0.0, 0
        self._evaluations.append(evaluation)
        if evaluation is self._best_evaluation():
            self._best = {name: value.detach().clone() for name, value in self._trainable().items()}
            self._best_logits = torch.from_numpy(logits)

    def _best_evaluation(self) -> Evaluation:
        """The evaluation with the highest dev AUC, the earliest of equals; without any AUC (one class), the last."""
        judged = [e for e in self._evaluations if not np.isnan(e.dev_auc)]
        return max(judged, key=lambda e: e.dev_auc) if judged else self._evaluations[-1]

    def _out_of_patience(self) -> bool:
        if not self._evaluations:
            return False
        since = len(self._evaluations) - 1 - self._evaluations.index(self._best_evaluation())
        return 0 < self.section.patience <= since

    def _trainable(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _snapshot(self, step: int) -> None:
        state: dict[str, Any] = {
            "step": step,
            "weights": self._trainable(),
            "best": self._best,
            "best_logits": self._best_logits,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "evaluations": [(e.step, e.dev_auc, e.train_loss) for e in self._evaluations],
            "loss": (self._loss_sum, self._loss_steps),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "threads": self._threads,
        }
        begun, size = time.monotonic(), _tensor_bytes(state)
        with whole_file(self.work / STATE_FILE, size) as path:
            torch.save(state, path)
        self._saved_at = time.monotonic()
        self._wait_seconds = snapshot_wait(self._saved_at - begun, size)

    def _restore(self) -> int:
        """Load the last snapshot, if there is one, and return the step to continue from."""
        path = self.work / STATE_FILE
        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"snapshot {path}: cannot be read ({error}); remove it to start again") from None
        if not os.environ.get("OMP_NUM_THREADS"):  # another number gives other last digits
            self._threads = int(state["threads"])
            torch.set_num_threads(self._threads)
        self.model.load_state_dict(state["weights"], strict=False)
        self._best, self._best_logits = state["best"], state["best_logits"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._evaluations = [Evaluation(*values) for values in state["evaluations"]]
        self._loss_sum, self._loss_steps = state["loss"]
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] and self.device.type == "cuda":
            torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda_rng"]])
        log.info("resuming after step %d", state["step"])
        return int(state["step"])

    def _finish(self) -> Outcome:
        self.model.load_state_dict(self._best, strict=False)
        self.model.eval()
        best, logits = self._best_evaluation().step, self._best_logits.cpu().numpy()
        return Outcome(tuple(self._evaluations), best, self.device.type, self.precision, logits)


def snapshot_wait(spent_seconds: float, size: int) -> float:
    """Return the seconds to wait after a snapshot of `size` bytes that took `spent_seconds` to write."""
    return max(SNAPSHOT_SECONDS, spent_seconds / SNAPSHOT_TIME_SHARE, size / SNAPSHOT_BYTES_A_SECOND)


def _tensor_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_tensor_bytes, inner))


def _resolve_precision(asked: str, device: torch.device) -> str:
    if device.type != "cuda":
        if asked == "fp16":
            log.info("precision fp16 needs a GPU; training in fp32")
        return asked if asked == "bf16" else "fp32"
    if asked == "auto":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return asked


def _parameter_groups(model: CrossEncoder, section: TrainingSection) -> list[dict[str, Any]]:
    """Group parameters by learning rate (fresh head or encoder) and by weight decay (matrices only)."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    stock = model.spec.kind is HeadKind.STOCK
    pretrained = f"encoder.{model.encoder.base_model_prefix}." if stock else "encoder."
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = section.learning_rate if name.startswith(pretrained) else section.head_learning_rate
            decay = section.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]
