"""What the commands `negatives` and `transfer` share: they draw candidates for the queries of training rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.storage.outputs import write_text
from relevance.tasks import LabeledPair, Task
from training.commands.options import KeepOutOption, Output, Printable, Reading, ReportOption
from training.data.files.writers import beside, check_ending, check_files

if TYPE_CHECKING:
    from training.data.stored.rows import StoredRows
    from training.embedding.vectors import PairEncoder
    from training.fitting.evaluation.scorer import RowScorer


@dataclass(frozen=True, slots=True)
class Inputs:
    """The rows to train on, how many were left out, the held-out rows by file, and further candidates."""

    rows: Sequence[LabeledPair]
    left_out: int
    held: "list[StoredRows]"
    candidates: list[str]


@dataclass(frozen=True, slots=True)
class DrawingFiles:
    """What is read and written beside FILE and OUT."""

    reading: Reading
    candidates: Annotated[Path | None, typer.Option(help="Further candidates, one a line, as rows write them.")] = None
    keep_out: KeepOutOption = None
    base_model: Annotated[str, typer.Option(help="The encoder that finds near candidates.")] = (
        "packaged:multilingual-e5-small"
    )
    cache: Annotated[
        Path | None, typer.Option(help="Folder of embeddings and logits.", show_default="OUT with .embeddings")
    ] = None
    report: ReportOption = None

    def check(self, file: Path, out: Path, task: Task, others: Sequence[Path | None], output: Output) -> None:
        """Check paths before any work; `others` are further inputs. Raises as `check_files` does."""
        from training.data.keep_out import files_beside

        inputs = [file, *files_beside(file, task), self.candidates, *(self.keep_out or ()), *others]
        check_files([out], inputs, others=[self.report], kept=self._kept(out), overwrite=output.overwrite)
        check_ending(self.report, ".json")

    def read(self, file: Path, task: Task) -> Inputs:
        """Read the rows of FILE that are not linked with held-out ones. InputError for a file that cannot be used."""
        from training.data.dataset import store_pairs
        from training.data.keep_out import kept_out_rows, without_linked
        from training.negatives.candidates import read_candidates

        held = kept_out_rows(file, task, self.keep_out, self.reading)
        read = store_pairs(file, task, reading=self.reading).rows
        rows = without_linked(read, held)
        further = [] if self.candidates is None else read_candidates(self.candidates)
        return Inputs(rows, len(read) - len(rows), held, further)

    def encoder(self, out: Path) -> "PairEncoder":
        """Open the encoder; its vectors are kept. Raises as `resolve_base_model` does."""
        from training.embedding.vectors import CachedEncoder
        from training.models.encoder_embedder import EncoderEmbedder

        return CachedEncoder(EncoderEmbedder(self.base_model), self._kept(out))

    def scorer(self, model: Path, task: Task, role: str, out: Path) -> "RowScorer":
        """Open a checkpoint or bundle; its logits are kept. Raises as `model_scorer` does."""
        from training.fitting.evaluation.scorer import KeptScorer, model_scorer

        return KeptScorer(model_scorer(model, task, role), self._kept(out))

    def write(self, out: Path, rows: Sequence[LabeledPair], task: Task, report: Printable) -> None:
        """Write the rows, and the report where it was asked for, each whole or not at all."""
        from training.data.splits import write_pairs

        write_pairs(out, rows, task)
        if self.report is not None:
            write_text(self.report, report.model_dump_json(indent=2) + "\n")

    def _kept(self, out: Path) -> Path:
        return self.cache or beside(out, "embeddings")
