"""Everything that the operator can turn, in one place. Built once at the edge and passed down; nothing else reads the
environment. Every field is the environment variable `RELEVANCE_` + its name in capitals.
"""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from relevance.card import explain
from relevance.errors import ConfigError


class Settings(BaseSettings):
    """The settings of one service process."""

    model_config = SettingsConfigDict(env_prefix="RELEVANCE_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 lets other machines in")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    max_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="padded tokens (rows x padded length) a model run holds at most; absent: 512 on a CPU, 16384 on a "
        "GPU. Higher: more pairs a second on a GPU, and longer runs that short requests wait behind. Lower: shorter "
        "waits, more overhead a pair",
    )
    max_candidates: int = Field(
        1000,
        ge=1,
        description="pairs a request holds at most. Higher: larger requests are let in, and hold more memory",
    )
    max_body_bytes: int = Field(
        2 * 1024 * 1024,
        ge=1,
        description="larger bodies are refused before they are parsed. Higher: more memory a call",
    )
    max_query_chars: int = Field(
        1000, ge=1, description="longer queries are refused. Higher: more tokenisation for text that is then cut"
    )
    max_candidate_chars: int = Field(
        4000, ge=1, description="longer candidates are refused. Higher: more tokenisation for text that is then cut"
    )
    max_queued_tokens: int = Field(
        200_000,
        ge=1,
        description="tokens a model has waiting at most; further requests get 429, but a request on its own is always "
        "let in. Higher: longer waits under load. Lower: earlier refusals",
    )
    threads: int = Field(
        0,
        ge=0,
        description="threads that one model run uses on the CPU; 0 takes every core given to this process. Lower it "
        "where other processes share the cores",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes CUDA where onnxruntime offers it; cuda fails at start where it does not"
    )
    drain_seconds: float = Field(
        5.0,
        ge=0,
        description="after SIGTERM, how long the service goes on accepting while /readyz says 503. Higher: load "
        "balancers surely notice. Lower: quicker restarts",
    )
    finish_seconds: float = Field(
        30.0, ge=0, description="after that, how long requests in flight may take before they are cut off"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="WARNING and above leave out the line that each request writes"
    )

    def batch_tokens(self, device: str) -> int:
        """Return the padded-token budget of a run on `cpu` or `cuda`."""
        return self.max_batch_tokens or (512 if device == "cpu" else 16_384)

    @classmethod
    def build(cls, **overrides: Any) -> Self:
        """Return the settings of the environment, with the overrides that are not None. Raises ConfigError."""
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            raise ConfigError(f"setting {explain(error)} (environment: RELEVANCE_ and the name in capitals)") from None
