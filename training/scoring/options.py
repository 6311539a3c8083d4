"""How a file is scored: the options of the commands `score` and `ask`."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from relevance.errors import ConfigError
from relevance.tasks import SCORE_FIELDS, Task
from relevance.text.prompt import Prompt, default_prompt
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.endpoint.options import EndpointOptions


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
    skip_bad_rows: bool = Field(False, description="skip bad rows; they go to a file that a message names")
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


class CommandEndpoint(EndpointOptions):
    """An endpoint by the options of a command."""

    @field_validator("extra_body", mode="before")
    @classmethod
    def _from_texts(cls, given: Any) -> Any:
        """Read the values of NAME=VALUE options as JSON, where they are."""
        return {name: _json(value) for name, value in given.items()} if isinstance(given, dict) else given


class AskOptions(CommandEndpoint):
    """How a language model, or a re-ranker, is asked about pairs."""

    api: Literal["chat", "completions", "rerank"] = Field(
        "chat",
        description="chat: the prompt is a user's message; completions: the model continues it; rerank: a re-ranker "
        "scores the pair as it is",
    )
    text: str | None = Field(
        None, description="the whole prompt with {query} and {candidate}; absent: that of the task, as in recipes"
    )
    steps: bool = Field(False, description="without text: a four-step instruction before the question")
    yes: str = Field("yes", min_length=1, description="the answer of label 1; one token of the model")
    no: str = Field("no", min_length=1, description="the answer of label 0; one token of the model")
    top_logprobs: int = Field(20, gt=1, description="likeliest tokens that the server is asked for; many take up to 20")

    @model_validator(mode="after")
    def _prompt_is_whole(self) -> Self:
        if self.api == "rerank" and (self.steps or self.text is not None):
            raise ValueError("text and steps: a re-ranker is asked without a prompt; expected with chat or completions")
        if bare_word(self.yes) == bare_word(self.no):
            raise ValueError(f"both answers are {self.yes!r}: expected two different words")
        if self.text is not None:
            try:
                Prompt(text=self.text, yes=self.yes, no=self.no)
            except ValidationError as error:
                raise ValueError(error.errors()[0]["msg"]) from None
        return self

    def prompt(self, task: Task) -> Prompt:
        """Return the prompt of a task."""
        return Prompt(text=self.text or default_prompt(task, steps=self.steps), yes=self.yes, no=self.no)


class ServedOptions(CommandEndpoint):
    """How vLLM, which serves a bundle of safetensors, is asked about pairs. Without a model's name: the bundle's."""

    model: str = ""
    request_pairs: int = Field(
        32, ge=1, le=4096, description="pairs in one request; vLLM makes its own batches of all requests under way"
    )

    @field_validator("url")
    @classmethod
    def _of_the_server(cls, url: str) -> str:
        """Leave out the `/v1` of OpenAI's routes: vLLM has `/classify` beside it."""
        return url.removesuffix("/v1")


def bare_word(token: str) -> str:
    """Return a token without the white space around it, and without the signs that vocabularies write for it."""
    return token.strip(" \t\n▁Ġ").casefold()


def _json(value: Any) -> Any:
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(value)
    return value
