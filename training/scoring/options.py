"""How a file is scored: the options of the command."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.data.files.reading import AS_IT_COMES, ReadOptions

ADDED = ("score", "label_predicted", "truncated", "model_version")


class ScoreOptions(BaseModel):
    """How to score a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    submission: Path | None = Field(
        None, description="also write predictions to this AnalytiCup zip; the other task's stay in it"
    )
    prefix: str = Field("", description="put before the names of the four added fields")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    threads: int = Field(0, ge=0, description="threads of the model; 0: every core allowed")
    max_batch_tokens: int | None = Field(
        None, ge=1, description="padded tokens a batch holds at most; absent: 2048 on a CPU, 16384 on a GPU"
    )
    shard_rows: int = Field(
        4096, ge=1, description="rows scored between two savings. Higher: less padding, more memory"
    )
    skip_bad_rows: bool = Field(False, description="skip bad rows and write them to a file beside the output")
    overwrite: bool = Field(False, description="replace existing output")
    reading: ReadOptions = Field(AS_IT_COMES, description="how the file is read")

    @property
    def added(self) -> tuple[str, str, str, str]:
        """The names of the added fields."""
        score, label, truncated, version = (f"{self.prefix}{name}" for name in ADDED)
        return score, label, truncated, version
