"""Fine-tuning of a cross-encoder: batches, optimiser, evaluation on dev, and snapshots to resume from.

The loop is this project's own and not transformers' Trainer, so that a resumed run ends with exactly the weights of an
uninterrupted one (docs/decisions/0002). Takes tokenised pairs and trains a model. Knows no files of rows;
training.fitting.checkpoint makes the folder.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relevance.evaluation.metrics import auc
from relevance.text.tokenization import PairTokenizer
from training.fitting.loop.guard import Guard, chance_error
from training.fitting.loop.losses import Goals, batch_loss, column
from training.fitting.loop.optimizer import Optimizer
from training.fitting.loop.precision import resolve_precision, training_device
from training.fitting.loop.schedule import evaluation_steps, rate_factor
from training.fitting.loop.snapshots import Snapshots
from training.fitting.loop.team import ALONE, Order, Team
from training.fitting.recipe import TrainingSection
from training.fitting.rows.examples import Examples, token_ids
from training.fitting.rows.sampling import Rows, training_batches
from training.models.cross_encoder import CrossEncoder, predict_logits, tensors
from training.models.used_rows import used_rows
from training.progress import Meter, Pace
from training.threads import use_free_cores

log = logging.getLogger(__name__)

_RANK_SEEDS = 1_000_003  # difference of the seeds of two processes, which draw different dropout


@dataclass(frozen=True)
class Evaluation:
    """The result of scoring the dev set after a step."""

    step: int
    dev_auc: float
    train_loss: float | None  # None before the first step


@dataclass(frozen=True)
class Outcome:
    """How a run ended: every evaluation, the last step that the model's weights are from, and their dev logits [N]."""

    evaluations: tuple[Evaluation, ...]
    best_step: int
    device: str
    precision: str
    dev_logits: NDArray[np.float32]


class FineTuner:
    """Trains one model on one set of examples; `work` holds the snapshot from which an interrupted run resumes.

    The leader of a team calls `run`, the other processes `follow`.
    """

    def __init__(
        self,
        model: CrossEncoder,
        tokenizer: PairTokenizer,
        section: TrainingSection,
        seed: int,
        work: Path,
        team: Team = ALONE,
    ) -> None:
        self.device = training_device()
        self.model = model.to(self.device)
        self.tokenizer = tokenizer
        self.section = section
        self.seed = seed
        self.precision = resolve_precision(section.precision, self.device, model.encoder.config.model_type)
        if section.gradient_checkpointing:
            self.model.checkpoint_layers()
        self._team = team
        self._snapshots = Snapshots(
            work, self.device, use_free_cores() if team.size == 1 else torch.get_num_threads(), team
        )
        self._guard = Guard()
        self._evaluations: list[Evaluation] = []
        self._logits = torch.zeros(0)
        self._loss_sum, self._loss_steps = 0.0, 0
        self._optimizer: Optimizer
        self._best: dict[str, Tensor] = {}  # the weights of the best evaluation

    def run(self, train: Examples, dev: Examples) -> Outcome:
        """Train to the end or the early stop; the model then has the weights with the best dev AUC."""
        with used_rows(self.model, token_ids(train, dev)):
            batches, begun = self._begin(train)
            pairs, done = sum(map(len, batches)), sum(map(len, batches[:begun]))
            with Meter("training", pairs, "pairs", done, Pace("pairs")) as meter:
                self._lead(train, dev, batches, begun, meter)
            return self._finish(dev)

    def follow(self, train: Examples, ids: Sequence[int]) -> None:
        """Compute this process's share of the batches until the leader ends the run; `ids` as of its `run`."""
        with used_rows(self.model, ids):
            batches, begun = self._begin(train)
            for step in range(begun, len(batches)):
                self._step(train, batches, step)
                order = self._team.order()
                if order is Order.SNAPSHOT:
                    self._snapshots.take_part()
                elif order is Order.STOP:
                    break

    def _begin(self, train: Examples) -> tuple[list[Rows], int]:
        """Return the batches of the whole run, and the number of those that are done already."""
        self._optimizer = Optimizer(self.model, self.section, self.precision, self.device, self._team)
        torch.manual_seed(self.seed + _RANK_SEEDS * self._team.rank)
        begun = self._restore()
        self._team.spread([*self.model.parameters(), *self.model.buffers()])
        return training_batches(train.pairs.lengths, train.queries, self.section, self.seed), begun

    def _lead(self, train: Examples, dev: Examples, batches: Sequence[Rows], begun: int, meter: Meter) -> None:
        if not batches:
            self._evaluate(0, dev)
        marks = evaluation_steps(len(batches), self.section.evaluations)
        for step in range(begun, len(batches)):
            loss, norm = self._step(train, batches, step)
            self._guard.after_step(step + 1, loss, norm)
            self._loss_sum, self._loss_steps = self._loss_sum + loss, self._loss_steps + 1
            meter.advance(len(batches[step]), f"loss {loss:.3f}")
            with meter.paused():
                if step + 1 in marks:
                    self._evaluate(step + 1, dev)
                if self._out_of_patience():
                    self._team.order(Order.STOP)
                    log.info("early stop after step %d: no better dev AUC in %d", step + 1, self.section.patience)
                    break
                if self._team.order(Order.SNAPSHOT if self._snapshots.due else Order.GO_ON) is Order.SNAPSHOT:
                    self._snapshot(step + 1)

    def _step(self, train: Examples, batches: Sequence[Rows], step: int) -> tuple[float, float]:
        """Train on a batch; return its loss and the norm of its gradient, over all processes."""
        self._optimizer.set_rate(rate_factor(step, len(batches), self.section.warmup_share))
        self.model.train()
        values: list[float] = []
        norm = self._optimizer.step(self._losses(train, batches[step], values))
        return self._team.total(sum(values)), norm

    def _losses(self, train: Examples, batch: Rows, values: list[float]) -> Iterator[Tensor]:
        """Yield the losses of the parts of a process's share; those of all add up to the batch's.

        Their values are put into `values`.
        """
        rows = self._team.share(batch)
        size = self.section.micro_batch_size or max(1, len(rows))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            loss = self._loss(train, part) * (len(part) / len(batch))
            values.append(float(loss.detach()))
            yield loss
            del loss  # with its graph, before the next part is computed

    def _loss(self, train: Examples, rows: Rows) -> Tensor:
        inputs = tensors(self.tokenizer, [train.pairs[i] for i in rows.tolist()], self.device)
        columns = (train.targets, train.weights, train.queries, train.teacher)
        goals = Goals(*(column(values, rows, self.device) for values in columns))
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            logits = self.model(**inputs)
        return batch_loss(logits.float(), goals, self.section)

    def _evaluate(self, step: int, dev: Examples) -> None:
        logits = predict_logits(self.model, self.tokenizer, dev.pairs)
        dev_auc = auc(dev.labels.tolist(), logits)
        loss = self._loss_sum / self._loss_steps if self._loss_steps else None
        evaluation = Evaluation(step, float("nan") if dev_auc is None else dev_auc, loss)
        told = "before the first step" if loss is None else f"step {step}: train loss {loss:.4f}"
        log.info("%s, dev AUC %.4f", told, evaluation.dev_auc)
        self._loss_sum, self._loss_steps = 0.0, 0
        self._evaluations.append(evaluation)
        self._guard.after_evaluation(
            step, logits, [e.dev_auc for e in self._evaluations], chance_error(dev.labels.tolist())
        )
        if evaluation is self._best_evaluation():
            self._best = {name: value.detach().clone() for name, value in self._trainable().items()}
            self._logits = torch.from_numpy(logits)

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
        self._snapshots.save(
            {
                "step": step,
                "weights": self._trainable(),
                "best": self._best,
                "logits": self._logits,
                "optimizer": self._optimizer.state(),
                "evaluations": [(e.step, e.dev_auc, e.train_loss) for e in self._evaluations],
                "loss": (self._loss_sum, self._loss_steps),
                "guard": (self._guard.still, self._guard.widest),
            }
        )

    def _restore(self) -> int:
        """Take up the last snapshot, if there is one, and return the step to continue from."""
        state = self._snapshots.load()
        if state is None:
            return 0
        self.model.load_state_dict(state["weights"], strict=False)
        self._best = state["best"]
        self._logits = state["logits"]
        self._optimizer.load(state["optimizer"])
        self._evaluations = [Evaluation(*values) for values in state["evaluations"]]
        self._loss_sum, self._loss_steps = state["loss"]
        self._guard.still, self._guard.widest = state["guard"]
        log.info("resuming after step %d", state["step"])
        return int(state["step"])

    def _finish(self, dev: Examples) -> Outcome:
        self.model.load_state_dict(self._best, strict=False)
        self.model.eval()
        best, logits = self._best_evaluation(), self._logits.cpu().numpy()
        return Outcome(tuple(self._evaluations), best.step, self.device.type, self.precision, logits)
