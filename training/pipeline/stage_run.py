"""What a stage is given when it runs: its part of the recipe, its inputs, a folder to write into, and the caches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relevance.tasks import LabeledPair
from training.data.stored.rows import StoredRows
from training.embedding.vectors import CachedEncoder, PairEncoder
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.store import Result
from training.pipeline.tables import open_rows, write_rows

# The files and folders that stages make.
TRAIN, DEV, TEST = "train.parquet", "dev.parquet", "test.parquet"
DEV_LOGITS, TEST_LOGITS = "dev.logits.parquet", "test.logits.parquet"
CHECKPOINT, BUNDLE = "checkpoint", "bundle"

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caches:
    """Folders that outlast a run (embeddings, logits, translations, out-of-fold scores), and the encoders in memory."""

    folder: Path
    _encoders: dict[str, PairEncoder] = field(default_factory=dict)

    def encoder(self, name: str) -> PairEncoder:
        """Return the pair encoder over a base model; its vectors are kept, and its weights are loaded once."""
        from training.models.encoder_embedder import EncoderEmbedder

        if name not in self._encoders:
            self._encoders[name] = CachedEncoder(EncoderEmbedder(name), self.folder / "embeddings")
        return self._encoders[name]


@dataclass(frozen=True, slots=True)
class StageRun:
    """One run of a stage. `find` gives the result and file behind the name of an input; KeyError for any other."""

    recipe: PipelineRecipe
    work: Path
    caches: Caches
    find: Callable[[str], tuple[Result, str]]

    def path(self, name: str) -> Path:
        """Return the path of an input file or folder."""
        result, file = self.find(name)
        return result.file(file)

    def report(self, name: str) -> Report:
        """Return the report of an earlier stage that is an input."""
        return self.find(name)[0].manifest.report

    def rows(self, name: str) -> list[LabeledPair]:
        """Return the rows of an input file."""
        return list(self.stored(name))

    def stored(self, name: str) -> StoredRows:
        """Return the rows of an input file without holding them."""
        return open_rows(self.path(name), self.recipe.task)

    def write(self, name: str, rows: Sequence[LabeledPair]) -> None:
        """Write rows as an output."""
        write_rows(self.work / name, rows, self.recipe.task)
