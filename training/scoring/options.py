"""How a file is scored: the options of the command."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relevance.errors import ConfigError
from relevance.tasks import SCORE_FIELDS
from training.data.files.reading import AS_IT_COMES, ReadOptions


class ScoreOptions(BaseModel):
    """How to score a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    submission: Path | None = Field(
        None, description="also write predictions to this AnalytiCup zip; the other task's stay in it"
    )
    prefix: str = Field("", description="put before the names of the four added fields")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    threads: int = Field(
        0, ge=0, description="threads of the model; 0: every core allowed; with --ray: CPUs of an actor; 0: 1"
    )
    max_batch_tokens: int | None = Field(
        None, ge=1, description="padded tokens a batch holds at most; absent: 2048 on a CPU, 16384 on a GPU"
    )
    shard_rows: int = Field(
        4096, ge=1, description="rows scored between two savings. Higher: less padding, more memory"
    )
    skip_bad_rows: bool = Field(False, description="skip bad rows and write them to a file beside the output")
    ray: str | None = Field(
        None, description="score on Ray: local starts one here; auto or HOST:PORT is a cluster of which this is a node"
    )
    actors: int = Field(2, ge=1, description="with --ray: processes that score at once")
    actor_gpus: float = Field(0.0, ge=0, description="with --ray: GPUs of each actor; .5: two share one; 0: CPU")
    overwrite: bool = Field(False, description="replace existing output")
    reading: ReadOptions = Field(AS_IT_COMES, description="how the file is read")

    @model_validator(mode="after")
    def _fits_ray(self) -> Self:
        if self.ray is None and (self.actors != 2 or self.actor_gpus):
            raise ConfigError("--actors and --actor-gpus: expected with --ray only")
        if self.ray is None:
            return self
        if not re.fullmatch(r"local|auto|[^:/\s]+:\d+", self.ray):
            raise ConfigError(
                f"--ray {self.ray!r}: expected local, auto or HOST:PORT; run the command on a node of the cluster"
            )
        if (self.device == "cuda") != bool(self.actor_gpus) and self.device != "auto":
            raise ConfigError(
                f"--device {self.device} and --actor-gpus {self.actor_gpus:g}: expected GPUs for cuda, 0 for cpu"
            )
        return self

    @property
    def added(self) -> tuple[str, str, str, str]:
        """The names of the added fields."""
        score, label, truncated, version = (f"{self.prefix}{name}" for name in SCORE_FIELDS)
        return score, label, truncated, version
