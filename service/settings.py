"""Everything that the operator can turn, in one place. Built once at the edge and passed down; nothing else reads the
environment. Every field is the environment variable `RELEVANCE_` + its name in capitals.
"""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from relevance.card import explain
from relevance.errors import ConfigError
from relevance.secrets import without_secrets

AIM = 0.85  # of the target latency

# Kubernetes sets variables for each service of a namespace; of one called `relevance` they start as ours do.
OF_KUBERNETES = re.compile(r"(tcp|udp|sctp)://")
SERVICE_LINK = re.compile(r"RELEVANCE_(SERVICE_(HOST|PORT\w*)|PORT|PORT_\d+_(TCP|UDP|SCTP)\w*)")


OF_TRAINING = "RELEVANCE_CACHE"  # where unpacked encoders lie


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
        1000,
        ge=1,
        description="longer queries are refused; other rerankers' shapes cut them. Higher: more tokenisation for "
        "text that is then cut",
    )
    max_candidate_chars: int = Field(
        4000,
        ge=1,
        description="longer candidates are refused; other rerankers' shapes cut them. Higher: more tokenisation "
        "for text that is then cut",
    )
    target_run_ms: float = Field(
        50.0,
        gt=0,
        description="how long one model run should take at most, by the speed of late; what arrives waits for the run "
        "that is under way. Lower: shorter waits, more overhead a pair",
    )
    target_latency_ms: float = Field(
        10_000.0,
        gt=0,
        description="requests that could not be scored within this time, by the speed of late, get 429. Higher: longer "
        "waits under load. Lower: earlier refusals. One that finds next to nothing waiting is always let in",
    )
    max_queued_tokens: int = Field(
        1_000_000, ge=1, description="tokens a model has waiting at most, whatever its speed. Higher: more memory"
    )
    max_requests: int = Field(
        1000, ge=1, description="requests in work at most; further ones get 429. Higher: more memory under load"
    )
    request_timeout_ms: float = Field(
        60_000.0,
        gt=0,
        description="requests get 504 where they are not scored after this time. A request's own X-Request-Timeout-Ms "
        "can only lower it",
    )
    max_bulk_requests: int = Field(
        4, ge=0, description="bulk requests in work at most; further ones get 429. 0 turns bulk scoring off (403)"
    )
    bulk_spool_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024 * 1024,
        description="answers of one bulk request that wait in memory for its caller at most; then its lines are no "
        "longer read. Higher: callers may send more before they read, and each bulk request may hold more memory",
    )
    bulk_min_bytes_per_second: float = Field(
        100.0,
        gt=0,
        description="a bulk caller that sends and reads less in the time that the service waits for it loses its "
        "place. Higher: slow callers lose it sooner. Lower: they may keep others out for longer",
    )
    bulk_silence_seconds: float = Field(
        60.0,
        gt=0,
        description="a bulk caller that sends and reads nothing for so long, while the service waits for it, loses "
        "its place. Higher: longer pauses are let pass",
    )
    bulk_retired_seconds: float = Field(
        300.0,
        ge=0,
        description="how long bulk requests may go on with a model that has been replaced; their other lines then "
        "get 503 `model_retired`. Higher: more of them end with one model, and its memory is held longer",
    )
    bulk_patience_ms: float = Field(
        2000.0,
        gt=0,
        description="bulk work that has waited so long gets one model run although others wait. Lower: bulk work "
        "moves on faster under load, and others wait longer",
    )
    token_cache_tokens: int = Field(
        1_000_000,
        ge=0,
        description="tokens of recurring queries and candidates that each model keeps, some 40 bytes each, so that "
        "they are not tokenised again. 0 turns it off",
    )
    score_cache_pairs: int = Field(
        0,
        ge=0,
        description="scored pairs that each model keeps, some 400 bytes each and their text, and does not score again. "
        "Good where whole pairs recur; 0 turns it off",
    )
    threads: int = Field(
        0,
        ge=0,
        description="threads that a model uses on the CPU; 0 takes every core given to this process. Lower it where "
        "other processes share the cores",
    )
    concurrent_runs: int = Field(
        0,
        ge=0,
        description="model runs side by side, which share the threads out; 0: one for each thread on a CPU, one on a "
        "GPU. Higher: more pairs a second on many cores, and short requests wait less behind large ones. 1: a few "
        "pairs that come alone are answered sooner",
    )
    max_failed_runs: int = Field(
        5,
        ge=1,
        description="after so many failed model runs in a row, and once more with pairs that were scored before, "
        "/healthz and /readyz say 503, so that the service is started again. Higher: later. One run that succeeds "
        "ends it",
    )
    end_when_dead_seconds: float = Field(
        90,
        ge=0,
        description="a service that can no longer score (/healthz says 503) ends itself after so long, so that what "
        "started it starts it again. Higher: more time to look at it; 0: never",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes CUDA where onnxruntime offers it; cuda fails at start where it does not"
    )
    gpu_memory_mb: int = Field(
        0, ge=0, description="memory that a model may take on a GPU; 0 sets no limit. Lower it where models share one"
    )
    cuda_graphs: bool = Field(
        False,
        description="capture the small batches' shapes on a GPU at start and repeat them by one call each. true: few "
        "pairs that come alone are answered sooner; under load fewer pairs a second, and all models' runs one after "
        "another (docs/performance.md)",
    )
    api_keys: Path | None = Field(
        None,
        description="TOML file of the API keys that may call, read again when it changes (docs/security.md); absent: "
        "everybody who reaches the port may",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate, with its chain: serves HTTPS. Needs tls_key"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key, without a password")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are let in; absent: none is asked for"
    )
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the admin interface, which changes models (docs/models.md); absent: there is none",
    )
    admin_host: str = Field("127.0.0.1", description="address that the admin interface listens on")
    bundle_root: Path | None = Field(
        None,
        description="folder below which bundles may be that the admin interface loads; absent: the folders around "
        "the bundles given at start",
    )
    keep_previous: bool = Field(
        True,
        description="keep the model before the active one loaded, to roll back to at once. false: less memory, and a "
        "roll-back is a switch to the old bundle",
    )
    watch_seconds: float = Field(
        0.0,
        ge=0,
        description="how often to look whether the bundles given at start have been replaced, and to switch where "
        "they have; 0: never",
    )
    drift_window_seconds: float = Field(
        3600.0,
        ge=6,
        description="over how long live scores and languages are compared with the bundle's. Higher: steadier figures, "
        "later told",
    )
    drift_min_scores: int = Field(
        500, ge=1, description="fewer scores in that window give no figure. Lower: sooner told, and more by chance"
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"https?://.+",
        description="URL of an OpenTelemetry collector that takes OTLP over HTTP, as http://collector:4318: requests "
        "are traced to it. Needs query-relevance[tracing]; absent: nothing is traced",
    )
    trace_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of requests that are traced; a caller's traceparent decides for its own. Higher: more work "
        "and traffic",
    )
    keep_alive_seconds: int = Field(
        620,
        ge=1,
        description="how long a connection is kept that waits for its next request. Keep it above what the load "
        "balancer in front has (most: 60 to 600 s): else a request now and then meets a connection just closed",
    )
    max_idle_connections: int = Field(
        2000,
        ge=1,
        description="connections kept that wait for a request, at most half of the files that this process may open; "
        "then the oldest is closed. Higher: more memory, some 20 kB each",
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

    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="json: one object a line; text: lines for people; auto: text on a terminal, json elsewhere"
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is not None and without_secrets(url) != url:
            raise ValueError("holds a user name, password or query; expected a plain URL (OTEL_EXPORTER_OTLP_HEADERS)")
        return url

    @property
    def aimed_latency_seconds(self) -> float:
        """What admission and scheduling aim at, so that `target_latency_ms` is kept although speed is a guess."""
        return AIM * self.target_latency_ms / 1000

    def runs_at_once(self, device: str, cores: int) -> int:
        """Return how many runs of a model on `cpu` or `cuda` go side by side on `cores`."""
        return self.concurrent_runs or ((self.threads or cores) if device == "cpu" else 1)

    def threads_a_run(self, cores: int) -> int:
        """Return how many threads each of these runs has on the CPU."""
        return max(1, (self.threads or cores) // self.runs_at_once("cpu", cores))

    @classmethod
    def build(cls, **overrides: Any) -> Self:
        """Return the settings of the environment, with the overrides that are not None. Raises ConfigError."""
        given = {name: value for name, value in overrides.items() if value is not None}
        if OF_KUBERNETES.match(os.environ.get("RELEVANCE_PORT", "")):
            given.setdefault("port", cls.model_fields["port"].default)
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(f"setting {explain(error)} (environment: RELEVANCE_ and the name in capitals)") from None


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Return the names of variables that look like settings and are none, those of Kubernetes left out."""
    known = {f"RELEVANCE_{name.upper()}" for name in Settings.model_fields} | {OF_TRAINING}
    ours = (name for name in environment if name.upper().startswith("RELEVANCE_"))
    return sorted(name for name in ours if name.upper() not in known and not SERVICE_LINK.fullmatch(name.upper()))


def suggested(variable: str) -> str:
    """Return which settings' variables an unknown one is close to, as the end of a message; empty where none is."""
    known = [f"RELEVANCE_{name.upper()}" for name in Settings.model_fields]
    found = difflib.get_close_matches(variable.upper(), known, n=2, cutoff=0.8)
    return f"; did you mean {' or '.join(found)}?" if found else ""
