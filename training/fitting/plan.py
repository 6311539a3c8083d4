"""What a run would cost, without training it: parameters, memory and steps. Loads no weights.

The model is built of fake tensors, and one step on its costliest batch is counted (training.models.memory). Counted are
tensors as they are on a CPU; Python and its libraries need some 0.5 GiB more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair
from training.data.stored.rows import on_disk
from training.fitting.loop.precision import resolve_precision, training_device
from training.fitting.loop.team import Team, resolve_processes
from training.fitting.packages import check_packages
from training.fitting.planned import Inputs, empty_batch, scoring_bytes
from training.fitting.recipe import Recipe
from training.fitting.rows.row_facts import facts_of
from training.fitting.rows.sampling import Rows, training_batches
from training.models.memory import LiveBytes, peak_bytes, size_of
from training.models.nf4 import whole_sizes
from training.models.used_rows import UsedRows, used_rows

STATES = 2  # of Adam, for each weight that learns: the means of its gradient and of the gradient's square


@dataclass(frozen=True)
class Plan:
    """Counts of a run, and the bytes of its parts where they are largest.

    `rows` and `tokens` are those of the costliest pairs that a process computes at once. Bytes are those of the first
    of `processes`: the others keep no best weights and do not score dev. `activations` are what a step needs beside the
    gradients; `evaluation` is what scoring dev needs, at another time. `whole` are the weights in fp32, as they are
    read and merged, where they are held in 4 bits in between; else 0. They are on the CPU, with a GPU too.
    """

    parameters: int
    trained: int
    steps: int
    processes: int
    rows: int
    tokens: int
    precision: str
    weights: int
    gradients: int
    optimizer: int
    kept: int
    activations: int
    evaluation: int
    whole: int

    @property
    def total(self) -> int:
        """The bytes of all parts at the costliest moment, in the first process."""
        trained = self.weights + max(self.gradients + self.activations, self.evaluation)
        return self.optimizer + self.kept + max(trained, self.whole)


def plan(recipe: Recipe, train: Sequence[LabeledPair], dev: Sequence[LabeledPair], lacking: Path) -> Plan:
    """Return what a run on these rows would take. Raises what training raises where base model or prompt do not fit.

    The ids of rows that a teacher lacks are written to `lacking`.
    """
    check_packages(recipe)
    if not recipe.training.epochs:
        raise ConfigError("--plan: training.epochs = 0 trains nothing; expected a number above 0")
    train, section = on_disk(train), recipe.training
    given = Inputs.of(recipe, train, dev)
    lengths, longest = given.lengths, int(given.dev_lengths.max())
    batches = training_batches(lengths, facts_of(train, section, lacking).queries, section, recipe.seed)
    processes = section.processes or resolve_processes(0)
    shares = [Team(0, processes).share(batch) for batch in batches]
    rows, tokens, parts = _costliest(shares, lengths, section.micro_batch_size)
    precision = resolve_precision(section.precision, training_device())
    with LiveBytes(), torch.device("meta"):
        model = given.empty_model()
    with FakeTensorMode(allow_non_fake_inputs=True):  # the numbers of a batch may be real; weights are not
        model.to_empty(device="cpu")
        parameters, weights = sum(value.numel() for value in model.parameters()), size_of(model)
        further, further_bytes = whole_sizes(model)
        with used_rows(model, given.ids):
            learning = [value for value in model.parameters() if value.requires_grad]
            words = model.encoder.get_input_embeddings()
            weights += size_of(words) if isinstance(words, UsedRows) else 0
            step = peak_bytes(lambda: _steps(model, (rows, tokens), parts, precision), model)
            evaluation = scoring_bytes(model, longest)
    trained = sum(value.numel() * value.element_size() for value in learning)
    return Plan(
        parameters=parameters + further,
        trained=sum(value.numel() for value in learning),
        steps=len(batches),
        processes=processes,
        rows=rows,
        tokens=tokens,
        precision=precision,
        weights=weights,
        gradients=trained,
        optimizer=STATES * trained,
        kept=trained,
        activations=max(0, step - trained),
        evaluation=evaluation,
        whole=weights + further_bytes if further else 0,
    )


def _costliest(batches: Sequence[Rows], lengths: Rows, size: int) -> tuple[int, int, int]:
    """Return rows and tokens of the largest part that is computed at once, and how many parts its batch has."""
    found = (0, 0, 0)
    for batch in batches:
        step = size or len(batch)
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            found = max(
                found,
                (len(part), int(lengths[part].max()), -(-len(batch) // step)),
                key=lambda each: (each[0] * each[1], each),
            )
    return found


def _steps(model: Module, shape: tuple[int, int], parts: int, precision: str) -> None:
    """Compute the gradients of a batch; a second part finds those of the first."""
    model.train()
    for _ in range(min(parts, 2)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32"):
            logits = model(*empty_batch(model, shape))
        logits.float().sum().backward()
