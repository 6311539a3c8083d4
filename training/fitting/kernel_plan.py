"""What solving for a kernel head would cost, without doing it: rows, memory, disk and time of the processor.

The model is built of fake tensors, so no weights are loaded. Counted are tensors and arrays, not Python and its
libraries (some 0.5 GiB).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from relevance.tasks import LabeledPair
from training.data.labels.weights import weight_column
from training.data.stored.rows import on_disk
from training.fitting.packages import check_packages
from training.fitting.planned import Inputs, scoring_bytes
from training.fitting.recipe import Recipe
from training.fitting.rows.row_facts import facts_of
from training.models.kernel_head import landmark_rows, solving_bytes, solving_operations
from training.models.memory import LiveBytes, size_of

DEV_PASSES = 2  # of the encoder over dev: for its cosines and for its logits
# Of one core that multiplies bf16: configs/qc.toml on 13,278 rows and 1,474 of dev takes 9.8e12, and took 37 s in all
# (benchmarks/real_data/qc.json).
OPERATIONS_A_SECOND = 2.6e11


@dataclass(frozen=True)
class KernelPlan:
    """Counts of a run, and the bytes of its parts where they are largest.

    `rows` are the training rows that count, `landmarks` those that the head keeps and the encoder reads; `tokens` are
    those of all pairs that the encoder reads, dev's twice. `vectors`, `kernel` and `blocks` are what solving takes
    beside the weights; `evaluation` is what scoring dev takes, at another time. `disk` is what `checkpoint` and the
    work folder, which goes at the end, take together; tokenizers are not counted. `cpu_seconds` are those of embedding
    and solving at the pace of the measured run.
    """

    parameters: int
    rows: int
    landmarks: int
    dev_rows: int
    tokens: int
    weights: int
    vectors: int
    kernel: int
    blocks: int
    evaluation: int
    checkpoint: int
    disk: int
    cpu_seconds: float

    @property
    def total(self) -> int:
        """The bytes of all parts at the costliest moment."""
        return self.weights + self.vectors + max(self.kernel + self.blocks, self.evaluation)


def plan_kernel(recipe: Recipe, train: Sequence[LabeledPair], dev: Sequence[LabeledPair], lacking: Path) -> KernelPlan:
    """Return what a run on these rows would take. Raises what training raises where the base model does not fit.

    The ids of rows that a teacher lacks are written to `lacking`.
    """
    check_packages(recipe)
    train = on_disk(train)
    given = Inputs.of(recipe, train, dev)
    factors = facts_of(train, recipe.training, lacking).factors
    weights = weight_column(train) * factors if len(factors) else weight_column(train)
    rows = landmark_rows(weights, given.recipe.head.landmarks, recipe.seed)
    with LiveBytes(), torch.device("meta"):
        model = given.empty_model()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        evaluation = scoring_bytes(model, int(given.dev_lengths.max()))
    read = int(given.lengths[rows].sum()) + DEV_PASSES * int(given.dev_lengths.sum())
    vectors, kernel, blocks = solving_bytes(model.spec, len(rows))
    encoder = sum(value.numel() for value in model.encoder.parameters())
    words = model.encoder.get_input_embeddings().weight.numel()
    operations = 2.0 * (encoder - words) * read + solving_operations(model.spec, len(rows))
    numbers = int(given.lengths.sum() + given.dev_lengths.sum()) + model.spec.features * (len(train) + len(dev))
    return KernelPlan(
        parameters=sum(value.numel() for value in model.parameters()),
        rows=int((weights > 0).sum()),
        landmarks=len(rows),
        dev_rows=len(dev),
        tokens=read,
        weights=size_of(model),
        vectors=vectors,
        kernel=kernel,
        blocks=blocks,
        evaluation=evaluation,
        checkpoint=size_of(model),
        disk=size_of(model) + size_of(model.encoder) + 4 * numbers,
        cpu_seconds=operations / OPERATIONS_A_SECOND,
    )
