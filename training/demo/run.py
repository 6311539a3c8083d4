"""The demo from beginning to end: what happens when, and what people are told of it.

Fine-tuning runs in this process; exports and the service run beside it (training.demo.processes). What is finished
stays in the folder, so the same command goes on after an interruption.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from relevance.model.bundle import stated_version
from relevance.storage.files import writing
from relevance.storage.locks import output_lock
from training.demo.parts import RECIPES, TASKS, Part, Stage
from training.demo.processes import Processes, Service, check_port

LOG = "demo.log"
SERVICE_LOG = "service.log"
INTERRUPTED = 130
NEEDED = ("torch", "optimum", "onnxruntime", "fastapi")
EXAMPLE = (
    '{"task": "qc", "query": "ランニングシューズ", "language": "ja", '
    '"candidates": ["shoes,sports shoes,running shoes", "furniture,office furniture,office chairs"]}'
)


class Demo:
    """One run of the demo in its folder."""

    def __init__(self, folder: Path, recipes: Path) -> None:
        self.parts = [Part.of(task, folder, recipes) for task in TASKS]
        self._folder, self._begun = folder, time.monotonic()
        self._processes = Processes(folder / LOG)
        self._service: Service | None = None
        self._beside = ThreadPoolExecutor(len(self.parts), "demo")

    @property
    def unfinished(self) -> list[Part]:
        """The parts without a bundle of the fine-tuned model."""
        return [part for part in self.parts if not part.tuned.is_exported]

    def serve(self, port: int) -> Service:
        """Start the service over the best bundles; make untuned ones where there are none. Returns when it answers."""
        unfinished = self.unfinished
        if any(not part.untuned.is_exported for part in unfinished):
            self._sample()
            self.say("The encoder as it is, untuned, gets a head that starts from its cosines; it answers first.")
            exports = [self._untuned(part) for part in unfinished]
            _all(exports)
        for part in self.parts:
            part.serve(part.untuned if part in unfinished else part.tuned)
            if part not in unfinished:
                part.drop_untuned()
        links = {part.task: part.served for part in self.parts}
        self._service = Service(self._processes, links, port, self._folder / SERVICE_LOG)
        self._service.wait_ready()
        return self._service

    def fine_tune(self) -> None:
        """Fine-tune what is unfinished; a bundle is exported, and served, while the next model trains."""
        self._sample()
        exports = []
        for number, part in enumerate(unfinished := self.unfinished, start=1):
            self.say(f"Fine-tuning {part.name} on the sample ({number} of {len(unfinished)}).")
            part.train_tuned(self._folder)
            exports.append(self._beside.submit(self._finish, part))
        _all(exports)

    def say(self, text: str) -> None:
        """Print a line of progress with the seconds since the start."""
        _tell(f"[{time.monotonic() - self._begun:4.0f} s] {text}")

    def end(self) -> None:
        """End all processes of the demo, and what waits for them."""
        self._processes.end()
        self._beside.shutdown(cancel_futures=True)

    def _sample(self) -> None:
        from training.sample.generate import NOTE_FILE, write_sample

        sample = self._folder / "sample"
        if not (sample / NOTE_FILE).is_file():
            rows = sum(write_sample(sample).values())
            self.say(f"The sample shop: {rows:,} synthetic pairs in 13 languages.")

    def _untuned(self, part: Part) -> "Future[None]":
        if not part.untuned.is_exported:
            part.train_untuned(self._folder)
        return self._beside.submit(self._export_untuned, part)

    def _export_untuned(self, part: Part) -> None:
        self._export(part.untuned)
        part.drop_untuned_checkpoint()

    def _export(self, stage: Stage) -> None:
        if not stage.is_exported:
            self._processes.export(stage.checkpoint, stage.bundle)

    def _finish(self, part: Part) -> None:
        """Export the fine-tuned model of a part and let the service change to it."""
        self.say(f"{part.name} is fine-tuned; exporting it to ONNX and comparing it with its checkpoint.")
        self._export(part.tuned)
        if self._service is None:
            self.say(f"{part.name}: {part.tuned.bundle}")
            return
        gain = _gain(part)
        part.serve(part.tuned)
        self._service.wait_for(part.task, stated_version(part.tuned.bundle))
        part.drop_untuned()
        self.say(f"{part.name}: the fine-tuned model answers from now on{gain}.")


def run(folder: Path, port: int, recipes: Path = RECIPES) -> None:
    """Serve the demo's models until Ctrl-C, first untuned and, when they are made, fine-tuned.

    `recipes` holds `qc.toml` and `qi.toml`. Raises MachineError for a port in use, and what training and export raise.
    """
    check_port(port)
    with _demo(folder, recipes) as demo:
        service = demo.serve(port)
        if demo.unfinished:
            demo.say(f"Open {service.url}/ now: the UNTUNED encoder answers and is marked so. Fine-tuning goes on.")
            demo.fine_tune()
        demo.say(f"Ready: the fine-tuned models answer at {service.url}/ . Stop with Ctrl-C.")
        _tell(_hints(service.url))
        with contextlib.suppress(KeyboardInterrupt):
            service.wait()
        _tell("\nStopped.")


def make_models(folder: Path, recipes: Path = RECIPES) -> None:
    """Make the bundles of the fine-tuned models that are not there yet. Raises what training and export raise."""
    with _demo(folder, recipes) as demo:
        demo.fine_tune()


@contextlib.contextmanager
def _demo(folder: Path, recipes: Path) -> Iterator[Demo]:
    """Yield a demo whose processes end with the block; an interruption exits with status 130."""
    for name in NEEDED:
        if find_spec(name) is None:  # found now, not after minutes
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    with output_lock(folder.absolute()):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        demo = Demo(folder, recipes)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.default_int_handler)
        _tell(f"Demo in {folder}. Its rows are SYNTHETIC: they show that the system works, not how good it is.")
        try:
            with _logged(folder / LOG):
                yield demo
        except KeyboardInterrupt:
            _tell(f"\nStopped. The same command goes on from here; what is done is kept in {folder}.")
            sys.exit(INTERRUPTED)
        finally:
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_IGN)  # a second signal must not leave a service behind
            demo.end()


@contextlib.contextmanager
def _logged(file: Path) -> Iterator[None]:
    """Send what training logs to a file: the demo's own lines are for people who see it for the first time."""
    root = logging.getLogger()
    handlers, to_file = root.handlers, logging.FileHandler(file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    root.handlers = [to_file]
    try:
        yield
    finally:
        root.handlers = handlers
        to_file.close()


def _gain(part: Part) -> str:
    before, after = (stage.dev_auc() if stage.is_exported else None for stage in (part.untuned, part.tuned))
    return f" (AUC on dev rows: {before:.2f} untuned, {after:.2f} now)" if before and after else ""


def _tell(text: str) -> None:
    print(f"{text}\n", end="", flush=True)  # in one write: exports report from threads of their own


def _hints(url: str) -> str:
    call = f"  curl -s {url}/v1/score -H 'Content-Type: application/json' -d '{EXAMPLE}'"
    command = os.path.relpath(Path(sys.argv[0])) if sys.argv[0].endswith("relevance") else "relevance"
    return f"\nAsk it from another terminal:\n\n{call}\n\nThe command is {command} : try {command} --help"


def _all(futures: Sequence["Future[None]"]) -> None:
    for future in futures:
        future.result()
