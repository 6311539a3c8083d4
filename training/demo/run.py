"""The demo from beginning to end: what happens when, and what people are told of it.

A process for each part trains and exports its two models; the service runs beside them (training.demo.processes).
What is finished stays in the folder, so the same command goes on after an interruption.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path

from relevance.model.bundle import stated_version
from relevance.storage.files import writing
from relevance.storage.locks import output_lock
from relevance.tasks import Task
from training.demo.parts import NICENESS, RECIPES, TASKS, Part, Stage
from training.demo.processes import Processes, Service, check_port

SERVICE_LOG = "service.log"
TRAINED, EXPORTED = "trained", "exported"
INTERRUPTED = 130
NEEDED = ("torch", "optimum", "onnxruntime", "fastapi")
CLOSED = signal.SIGHUP  # its terminal was closed; `nohup` ignores it
EXAMPLE = (
    '{"task": "qc", "query": "ランニングシューズ", "language": "ja", '
    '"candidates": ["shoes,sports shoes,running shoes", "furniture,office furniture,office chairs"]}'
)


class Demo:
    """One run of the demo in its folder."""

    def __init__(self, folder: Path, recipes: Path, *, tuned_only: bool) -> None:
        self._parts = [Part.of(task, folder, recipes) for task in TASKS]
        self._unfinished = [part for part in self._parts if not part.tuned.is_exported]
        self._folder, self._recipes, self._tuned_only, self._begun = folder, recipes, tuned_only, time.monotonic()
        self._processes = Processes()
        self._beside = ThreadPoolExecutor(len(self._parts), "demo")
        self._untuned: list[Future[None]] = [Future() for _ in self._unfinished]
        self._tuned: list[Future[None]] = []
        self._service: Future[Service] = Future()

    def begin(self) -> None:
        """Start to make what is not there yet."""
        from training.sample.generate import NOTE_FILE, write_sample

        sample = self._folder / "sample"
        if self._unfinished and not (sample / NOTE_FILE).is_file():
            rows = sum(write_sample(sample).values())
            self.say(f"The sample shop: {rows:,} synthetic pairs in 13 languages.")
        if not self._tuned_only and any(not part.untuned.is_exported for part in self._unfinished):
            self.say("The encoder as it is, untuned, gets a head that starts from its cosines; it answers first.")
        self._tuned = [self._beside.submit(self._make, place) for place in range(len(self._unfinished))]

    def serve(self, port: int) -> Service:
        """Start the service over the best bundles, as soon as each part has one. Returns when it answers."""
        _all(self._untuned)
        for part in self._parts:
            part.serve(part.untuned if part in self._unfinished else part.tuned)
            if part not in self._unfinished:
                part.drop_untuned()
        links = {part.task: part.served for part in self._parts}
        service = Service(self._processes, links, port, self._folder / SERVICE_LOG)
        service.wait_ready()
        if self._unfinished:
            self.say(f"Open {service.url}/ now: the UNTUNED encoder answers and is marked so.")
            names = " and ".join(part.name for part in self._unfinished)
            logs = ", ".join(str(part.log) for part in self._unfinished)
            self.say(f"Fine-tuning of {names} on the sample goes on; how far it is: {logs}")
        self._service.set_result(service)
        return service

    def finish(self) -> None:
        """Wait until all fine-tuned bundles are made and, where there is a service, answer."""
        _all(self._tuned)

    def say(self, text: str) -> None:
        """Print a line of progress with the seconds since the start."""
        _tell(f"[{time.monotonic() - self._begun:4.0f} s] {text}")

    def end(self) -> None:
        """End all processes of the demo, and what waits for them."""
        self._processes.end()
        if not self._service.done():
            self._service.set_exception(KeyboardInterrupt())
        self._beside.shutdown(cancel_futures=True)

    def _make(self, place: int) -> None:
        """Make the models of a part in a process of its own, and serve the fine-tuned one when it is there."""
        part, untuned = self._unfinished[place], self._untuned[place]
        wanted = ["--models-only"] if self._tuned_only else []
        command = ["demo", str(self._folder), "--part", part.task.value, "--recipes", str(self._recipes), *wanted]
        try:
            if part.untuned.is_exported:
                untuned.set_result(None)
            what, parts = f"training and export of {part.name}", len(self._unfinished)
            for line in self._processes.run(what, *command, log=part.log, of=parts):
                if line == _done(part.untuned, EXPORTED):
                    untuned.set_result(None)
                elif line == _done(part.tuned, TRAINED):
                    self.say(f"{part.name} is fine-tuned; exporting it to ONNX and comparing it with its checkpoint.")
                elif line == _done(part.tuned, EXPORTED):
                    self._finish(part)
        except BaseException as error:
            if not untuned.done():
                untuned.set_exception(error)
            raise

    def _finish(self, part: Part) -> None:
        """Let the service change to the fine-tuned model of a part."""
        if self._tuned_only:
            self.say(f"{part.name}: {part.tuned.bundle}")
            return
        service, gain = self._service.result(), _gain(part)
        part.serve(part.tuned)
        service.wait_for(part.task, stated_version(part.tuned.bundle))
        part.drop_untuned()
        self.say(f"{part.name}: the fine-tuned model answers from now on{gain}.")


def run(folder: Path, port: int, recipes: Path = RECIPES) -> None:
    """Serve the demo's models until Ctrl-C, first untuned and, when they are made, fine-tuned.

    `recipes` holds `qc.toml` and `qi.toml`. Raises MachineError for a port in use, and where training or export fails.
    """
    check_port(port)
    with _demo(folder, recipes) as demo:
        demo.begin()
        service = demo.serve(port)
        demo.finish()
        demo.say(f"Ready: the fine-tuned models answer at {service.url}/ . Stop with Ctrl-C.")
        _tell(_hints(service.url))
        with contextlib.suppress(KeyboardInterrupt):
            service.wait()
        _tell("\nStopped.")


def make_models(folder: Path, recipes: Path = RECIPES) -> None:
    """Make the bundles of the fine-tuned models that are not there yet. Raises MachineError where that fails."""
    with _demo(folder, recipes, tuned_only=True) as demo:
        demo.begin()
        demo.finish()


def make_part(folder: Path, task: Task, recipes: Path, *, tuned_only: bool) -> None:
    """Make the models of a part that are not there yet; print a line when each is trained and when it is exported.

    The demo reads these lines.
    """
    part = Part.of(task, folder, recipes)
    for stage in part.stages(tuned_only=tuned_only):
        if stage is part.tuned:
            _give_way(NICENESS[task])
        part.train(folder, stage)
        _tell(_done(stage, TRAINED))
        stage.export()
        if stage is part.untuned:
            part.drop_untuned_checkpoint()
        _tell(_done(stage, EXPORTED))


@contextlib.contextmanager
def _demo(folder: Path, recipes: Path, *, tuned_only: bool = False) -> Iterator[Demo]:
    """Yield a demo whose processes end with the block; an interruption exits with status 130."""
    for name in NEEDED:
        if find_spec(name) is None:  # found now, not after minutes
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    with output_lock(folder.absolute()):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        demo = Demo(folder, recipes, tuned_only=tuned_only)
        ending = {signal.SIGINT, signal.SIGTERM, *({CLOSED} if signal.getsignal(CLOSED) is signal.SIG_DFL else ())}
        for each in ending:
            signal.signal(each, signal.default_int_handler)
        _tell(f"Demo in {folder}. Its rows are SYNTHETIC: they show that the system works, not how good it is.")
        try:
            yield demo
        except KeyboardInterrupt:
            _tell(f"\nStopped. The same command goes on from here; what is done is kept in {folder}.")
            sys.exit(INTERRUPTED)
        finally:
            for each in ending:
                signal.signal(each, signal.SIG_IGN)  # a second signal must not leave a service behind
            demo.end()


def _done(stage: Stage, what: str) -> str:
    """Return the line by which a process says that it has trained or exported a model."""
    return f"{stage.recipe.name} {what}"


def _give_way(steps: int) -> None:
    """Lower the priority of this process by steps of `nice`: that of each thread, as Linux has it."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + steps
    for thread in Path("/proc/self/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def _gain(part: Part) -> str:
    before, after = (stage.dev_auc() if stage.is_exported else None for stage in (part.untuned, part.tuned))
    return f" (AUC on dev rows: {before:.2f} untuned, {after:.2f} now)" if before and after else ""


def _tell(text: str) -> None:
    print(f"{text}\n", end="", flush=True)  # in one write: each part reports from a thread of its own


def _hints(url: str) -> str:
    call = f"  curl -s {url}/v1/score -H 'Content-Type: application/json' -d '{EXAMPLE}'"
    command = os.path.relpath(Path(sys.argv[0])) if sys.argv[0].endswith("relevance") else "relevance"
    return f"\nAsk it from another terminal:\n\n{call}\n\nThe command is {command} : try {command} --help"


def _all(futures: list[Future[None]]) -> None:
    """Wait for all, or raise what the first one that failed has raised."""
    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
        future.result()
