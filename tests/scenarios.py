"""A healthy service and broken ones, each a real process with a load of its own, and the alerts it must raise."""

import asyncio
import contextlib
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx

from relevance.model.bundle import MODEL_FILE, Bundle, write_bundle_files
from relevance.model.card import score_reference
from relevance.tasks import Pair
from service.runtime.session import Engine
from tests.cascades import DEV_PAIRS, some_pairs, tiny_cascade
from tests.faulty import command
from tests.serving import COMMAND, Process, running
from tests.tiny import tiny_bundle, tiny_model

TEXTS = [f"Shoes {number}" for number in range(300)]
OTHERS = [letter * 12 for letter in "abcdefghijklmnopqrstuvwxy"]
SIZES = (1, 8, 40, 80, 150)
LONG_TEXT = "x" * 60
LATENCY = frozenset({"RelevanceLatencyBurnFast", "RelevanceLatencyBurnSlow"})
ERRORS = frozenset({"RelevanceErrorBurnFast", "RelevanceErrorBurnSlow"})

Request = tuple[str, dict[str, Any]]


def score(candidates: list[str], language: str = "en", task: str = "qc") -> Request:
    """Return a request of one query."""
    return "/v1/score", {"task": task, "query": "shoes", "candidates": candidates, "language": language}


def usual() -> list[Request]:
    """Return requests as the bundle's reference expects them: a quarter in Spanish."""
    rng = random.Random(0)
    kinds = itertools.product(range(5), SIZES, ("en", "en", "es", "en"))
    return [score(rng.sample(TEXTS, size), language) for _, size, language in kinds]


def many_shapes() -> list[Request]:
    """Return the usual requests and one of every other kind that the service knows, some of them refused."""
    rerank = {"query": "shoes", "documents": TEXTS[:5]}
    return [
        *usual(),
        ("/v1/rerank", rerank),
        ("/v2/rerank", rerank),
        ("/v1/score", {"task": "qc", "query": "shoes"}),
        ("/nowhere", {}),
    ]


def cascade_pairs() -> list[Request]:
    """Return requests of the pairs that the band of the cascade was chosen on, 20 in each."""
    pairs = [asdict(pair) for pair in some_pairs(DEV_PAIRS)]
    return [("/v1/score", {"task": "qc", "pairs": pairs[place : place + 20]}) for place in range(0, len(pairs), 20)]


@dataclass(frozen=True)
class Scenario:
    """A service and its load: `connections` that each send a request and then pause.

    `must` fire, `may` fire too because the fault brings them about; all other alerts have to stay silent.
    """

    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    fault: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=lambda: [score(TEXTS[:8])])
    connections: int = 1
    pause_seconds: float = 0.2
    without: str = ""  # letters that the tokenizer does not know
    later: Callable[[Process, Path], None] = lambda process, bundle: None  # what befalls the running service


def kill(process: Process, bundle: Path) -> None:
    """Kill the process of a service."""
    process.child.kill()


def spoil(process: Process, bundle: Path) -> None:
    """Put a newer bundle in the watched place whose model is not the one that its manifest names."""
    newer = bundle.with_name("newer")
    tiny_bundle(newer, seed=1)
    onnx.save(tiny_model(2, 16, 0), newer / MODEL_FILE)
    bundle.rename(bundle.with_name("older"))
    newer.rename(bundle)


def shadow(process: Process, bundle: Path) -> None:
    """Let a challenger score what the service answers."""
    tiny_bundle(bundle.with_name("challenger"), seed=1)
    url = next(json.loads(line)["url"] for line in process.lines if '"admin interface at' in line)
    change = {"bundle": "challenger", "mode": "shadow", "share": 1.0}
    httpx.post(f"{url}/v1/admin/models/qc", json=change, timeout=30).raise_for_status()


SCENARIOS = {
    "healthy": Scenario(requests=many_shapes(), settings={"score_cache_pairs": 100, "admin_port": 0}, later=shadow),
    "cascade": Scenario(requests=cascade_pairs()),
    "slow": Scenario(must=LATENCY, fault="slow", pause_seconds=0),
    "queueing": Scenario(
        must=frozenset({"RelevanceQueueDelay"}),
        may=LATENCY,
        fault="busy",
        settings={"max_batch_tokens": 1},
        requests=[score([LONG_TEXT])],
        connections=6,
        pause_seconds=0,
    ),
    "shedding": Scenario(
        must=frozenset({"RelevanceShedding"}),
        fault="busy",
        settings={"target_run_ms": 1000, "target_latency_ms": 50},
        connections=6,
        pause_seconds=0.1,
    ),
    "failing": Scenario(must=ERRORS | {"RelevanceNotReady"}, fault="failing"),
    "dying-once": Scenario(must=frozenset({"RelevanceInferenceRestarted"}), may=ERRORS, fault="dying-once"),
    "dying": Scenario(
        must=ERRORS | {"RelevanceInferenceRestarted", "RelevanceNotReady"},
        fault="dying",
    ),
    "killed": Scenario(must=frozenset({"RelevanceTargetDown"}), later=kill),
    "refused": Scenario(must=frozenset({"RelevanceBundleRefused"}), settings={"watch_seconds": 0.5}, later=spoil),
    "leaking": Scenario(must=frozenset({"RelevanceMemoryGrowing"}), fault="leaking"),
    "scores-drift": Scenario(
        must=frozenset({"RelevanceScoreDrift"}),
        requests=[score(OTHERS, language) for language in ("en", "en", "es", "en")],
    ),
    "languages-drift": Scenario(
        must=frozenset({"RelevanceLanguageDrift"}),
        requests=[score(TEXTS[place : place + 50], "es") for place in range(0, 300, 50)],
    ),
    "odd-inputs": Scenario(
        must=frozenset({"RelevanceUnknownTokens", "RelevanceTruncatedInputs"}),
        requests=[score(["z" * 12 + text, "x" * 100]) for text in TEXTS],
        without="z",
    ),
}
REFERENCED = ("healthy", "scores-drift", "languages-drift")  # whose bundles know what scores to expect


def make_bundle(folder: Path, name: str) -> Path:
    """Write the bundle of a scenario."""
    if name == "cascade":
        tiny_cascade(folder.parent)
        return (folder.parent / "both").rename(folder)
    tiny_bundle(folder, without=SCENARIOS[name].without)
    if name in REFERENCED:
        opened = Bundle.open(folder)
        engine, manifest = Engine(opened, threads=1), opened.manifest
        pairs = [Pair("shoes", text, "en") for text in TEXTS]
        scores = manifest.scores(engine.logits(engine.inputs.encode(pairs)))
        found = score_reference(np.tile(scores, 4), [language for language in ("en", "en", "es", "en") for _ in TEXTS])
        write_bundle_files(folder, manifest.model_copy(update=found), opened.golden)
    return folder


@contextlib.contextmanager
def services(folder: Path, window_seconds: float) -> Iterator[dict[str, tuple[Process, Path, str]]]:
    """Start the services of all scenarios; yield process, bundle and URL of each once all are ready."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, scenario in SCENARIOS.items():
            bundle = make_bundle(folder / name / "qc", name)
            chosen = command(scenario.fault) if scenario.fault else tuple(COMMAND)
            drift = {
                "drift_window_seconds": window_seconds,
                "drift_min_scores": 200,
                "threads": 1,
                "end_when_dead_seconds": 0,
            }
            running_one = running({"qc": bundle}, chosen, **{**drift, **scenario.settings})
            started[name] = stack.enter_context(running_one), bundle
        yield {name: (process, bundle, process.wait_ready()) for name, (process, bundle) in started.items()}


@contextlib.contextmanager
def load(urls: Mapping[str, str]) -> Iterator[None]:
    """Send each service the requests of its scenario meanwhile."""
    ended = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_all_callers(urls, ended)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def _all_callers(urls: Mapping[str, str], ended: threading.Event) -> None:
    callers = [
        _caller(url, SCENARIOS[name], place, ended)
        for name, url in urls.items()
        for place in range(SCENARIOS[name].connections)
    ]
    await asyncio.gather(*callers)


async def _caller(url: str, scenario: Scenario, place: int, ended: threading.Event) -> None:
    requests = itertools.islice(itertools.cycle(scenario.requests), place, None)
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while not ended.is_set():
            path, body = next(requests)
            with contextlib.suppress(httpx.HTTPError):  # some of the services end
                await client.post(path, json=body)
            await asyncio.sleep(scenario.pause_seconds)
