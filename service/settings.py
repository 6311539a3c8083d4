"""The settings of the service. Built once at start and passed down; nothing else reads the environment.

Each field is the environment variable `RELEVANCE_` + its name in capitals.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from relevance.errors import ConfigError
from relevance.model.card import explain
from relevance.secrets import without_secrets
from service.listening import ListeningSettings

AIM = 0.85  # of the target latency: the throughput is an estimate
OF_KUBERNETES = re.compile(r"(tcp|udp|sctp)://")  # what Kubernetes sets RELEVANCE_PORT to (service.environment)


class Settings(ListeningSettings):
    """The settings of one service process."""

    max_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="maximum padded tokens (rows x padded length) of a model run; absent: 512 on a CPU, 16384 on a "
        "GPU. Higher: more pairs/s on a GPU, but short requests wait for longer runs. Lower: shorter waits, more "
        "overhead a pair",
    )
    max_candidates: int = Field(
        1000, ge=1, description="maximum pairs of a request. Higher: larger requests are accepted, and use more memory"
    )
    max_body_bytes: int = Field(
        2 * 1024 * 1024,
        ge=1,
        description="maximum bytes of a body; larger ones are refused unparsed. Higher: more memory a call",
    )
    max_query_chars: int = Field(
        1000,
        ge=1,
        description="maximum characters of a query. /v1/score refuses longer ones; the routes of other rerankers cut "
        "them. Higher: more time to tokenise text that the model does not read",
    )
    max_candidate_chars: int = Field(
        4000,
        ge=1,
        description="maximum characters of a candidate. /v1/score refuses longer ones; the routes of other rerankers "
        "cut them. Higher: more time to tokenise text that the model does not read",
    )
    target_run_ms: float = Field(
        50.0,
        gt=0,
        description="target duration of a model run, by the recent throughput; new requests wait for the run in "
        "progress. Lower: shorter waits, more overhead a pair",
    )
    target_latency_ms: float = Field(
        10_000.0,
        gt=0,
        description="requests that cannot be scored within this time, by the recent throughput, get 429. Higher: "
        "longer waits under load. Lower: earlier refusals. A request to an almost empty queue is always accepted",
    )
    max_queued_tokens: int = Field(
        1_000_000, ge=1, description="maximum tokens in a model's queue, whatever its throughput. Higher: more memory"
    )
    max_requests: int = Field(
        1000, ge=1, description="maximum requests in progress; further ones get 429. Higher: more memory under load"
    )
    request_timeout_ms: float = Field(
        60_000.0,
        gt=0,
        description="requests that are not scored after this time get 504. The header X-Request-Timeout-Ms can only "
        "lower it",
    )
    max_bulk_requests: int = Field(
        4, ge=0, description="maximum bulk requests in progress; further ones get 429. 0 turns bulk scoring off (403)"
    )
    bulk_spool_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024 * 1024,
        description="maximum bytes of answers that one bulk request keeps in memory until its caller reads them; then "
        "no more lines are read. Higher: callers may send more before they read, and a request may use more memory",
    )
    bulk_min_bytes_per_second: float = Field(
        100.0,
        gt=0,
        description="minimum rate at which a bulk caller must send and read while the service waits for it; the "
        "requests of slower callers are ended. Higher: they are ended sooner. Lower: they keep others out for longer",
    )
    bulk_silence_seconds: float = Field(
        60.0,
        gt=0,
        description="the request of a bulk caller that sends and reads nothing for this time, while the service waits "
        "for it, is ended. Higher: longer pauses are accepted",
    )
    bulk_retired_seconds: float = Field(
        300.0,
        ge=0,
        description="how long bulk requests may continue with a model that has been replaced; their other lines then "
        "get 503 `model_retired`. Higher: more of them end with one model, and its memory is freed later",
    )
    bulk_patience_ms: float = Field(
        2000.0,
        gt=0,
        description="bulk work that has waited for this time gets one model run although interactive requests wait. "
        "Lower: bulk work is faster under load, and interactive requests wait longer",
    )
    token_cache_tokens: int = Field(
        1_000_000,
        ge=0,
        description="size of each model's cache of tokenised queries and candidates, in tokens of some 40 bytes each. "
        "0 turns it off",
    )
    score_cache_pairs: int = Field(
        0,
        ge=0,
        description="size of each model's cache of scored pairs, some 400 bytes each plus their text. Useful where "
        "whole pairs recur; 0 turns it off",
    )
    threads: int = Field(
        0,
        ge=0,
        description="threads of a model on the CPU; 0 takes every core of this process. Lower it where other processes "
        "share the cores",
    )
    concurrent_runs: int = Field(
        0,
        ge=0,
        description="model runs at a time, which share the threads; 0: one for each thread on a CPU, one on a GPU. "
        "Higher: more pairs/s on many cores, and short requests wait less behind large ones. 1: a few pairs that come "
        "alone are answered sooner",
    )
    max_failed_runs: int = Field(
        5,
        ge=1,
        description="after this many failed model runs in a row, and one more with pairs that were scored before, "
        "/healthz and /readyz say 503, so that the service is restarted. Higher: later. One successful run resets it",
    )
    end_when_dead_seconds: float = Field(
        90,
        ge=0,
        description="a service that can no longer score (/healthz says 503) ends itself after this time, so that its "
        "supervisor restarts it. Higher: more time to look at it; 0: never",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes CUDA where onnxruntime offers it; cuda fails at start where it does not"
    )
    cpu_runtime: Literal["auto", "onnxruntime", "openvino"] = Field(
        "auto",
        description="what computes models on a CPU. auto: OpenVINO in bf16 where openvino is installed (extra "
        "serve-openvino), the processor multiplies in bf16 and an fp32 bundle's golden pairs agree within 0.05; else "
        "onnxruntime. openvino fails at start where that does not hold. onnxruntime: equal scores on all machines",
    )
    gpu_memory_mb: int = Field(
        0, ge=0, description="maximum memory of a model on a GPU; 0: no limit. Lower it where models share a GPU"
    )
    cuda_graphs: bool = Field(
        False,
        description="capture the shapes of small batches on a GPU at start, and replay each by one call. true: less "
        "waiting for kernels to start, a slower start, and one run at a time over all models (docs/serving.md)",
    )
    page: bool = Field(
        True,
        description="serve the page for people at `/` (docs/page.md). false: `/` is 404; `/docs` stays",
    )
    open_reports: bool = Field(
        False,
        description="where no api_keys are set, send the reports in bundles, which show rows of the data, to everybody "
        "who reaches the port. false: they need a key of scope admin. No effect where api_keys are set",
    )
    bundle_root: Path | None = Field(
        None,
        description="folder whose bundles the admin interface may load; absent: the folders around the bundles given "
        "at start",
    )
    keep_previous: bool = Field(
        True,
        description="keep the model before the active one loaded, for an immediate roll-back. false: less memory, and "
        "a roll-back is a switch to the old bundle",
    )
    watch_seconds: float = Field(
        0.0,
        ge=0,
        description="how often to check whether the bundles given at start have been replaced, and to switch to the "
        "new ones; 0: never",
    )
    drift_window_seconds: float = Field(
        3600.0,
        ge=6,
        description="window of the live scores and languages that are compared with the bundle's. Higher: steadier "
        "figures that react later",
    )
    drift_min_scores: int = Field(
        500, ge=1, description="minimum scores in that window for a figure. Lower: earlier figures, with more noise"
    )
    feedback_folder: Path | None = Field(
        None, description="folder of the feedback log (docs/feedback.md); absent: nothing of a request is kept"
    )
    feedback_share: float = Field(
        1.0, ge=0, le=1, description="share of the requests in the feedback log. Higher: more rows, more disk"
    )
    feedback_text: Literal["none", "candidates", "all"] = Field(
        "none",
        description="texts in the feedback log: none has hashes only; candidates: categories and titles; all: queries "
        "too, which people typed",
    )
    feedback_file_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="a file of the feedback log is published at this size. Higher: fewer files"
    )
    feedback_file_seconds: float = Field(
        3600.0, gt=0, description="a file of the feedback log is published after this time. Lower: more, newer files"
    )
    feedback_folder_bytes: int = Field(
        10 * 1024**3,
        ge=1,
        description="where the feedback log's folder holds this much, nothing is added (counted in a metric); its "
        "files are never removed",
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="WARNING and above leave out the line that each request writes"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="json: one object a line; text: plain lines; auto: text on a terminal, json elsewhere"
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is not None and without_secrets(url) != url:
            raise ValueError("holds a user name, password or query; expected a plain URL (OTEL_EXPORTER_OTLP_HEADERS)")
        return url

    @property
    def aimed_latency_seconds(self) -> float:
        """The latency that admission and scheduling aim at, below `target_latency_ms`."""
        return AIM * self.target_latency_ms / 1000

    def runs_at_once(self, device: str, cores: int) -> int:
        """Return how many runs of a model go at a time on `cpu` or `cuda`."""
        return self.concurrent_runs or ((self.threads or cores) if device == "cpu" else 1)

    def threads_a_run(self, cores: int) -> int:
        """Return how many threads each run has on the CPU."""
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
