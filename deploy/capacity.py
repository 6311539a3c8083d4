"""How many pods for N requests/s of M candidates, from measured figures; see docs/capacity.md.

`python deploy/capacity.py --requests-per-second 50 --candidates 100`. `--figures` takes a file written by
benchmarks/serving/throughput.py, for other hardware or another model. `--update PAGE` runs each command on the page and
writes its output below it.
"""

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FIGURES = Path(__file__).parents[1] / "benchmarks" / "serving" / "throughput.json"
LATENCIES_MS = (100, 200, 500, 1000)
SHOWN = re.compile(r"```console\n\$ python deploy/capacity\.py(.*)\n(?:.*\n)*?```")


@dataclass(frozen=True)
class Pod:
    """The measured speed of one pod, with the cores and the model of the measurement."""

    cores: int
    model: str
    pairs_per_second: float
    single_pair_p50_ms: float
    single_pair_p99_ms: float


@dataclass(frozen=True)
class Plan:
    """The pods for a load, and the latency of a request there."""

    pods: int
    needed: float
    busy: float
    request_seconds: float
    wait_seconds: float


def read(path: Path) -> Pod:
    """Return the figures of a result of benchmarks/serving/throughput.py. Raises KeyError for a missing figure."""
    figures = json.loads(path.read_text(encoding="utf-8"))
    model, single = figures["model"], figures["single_pair_ms"]
    described = f"{model['name']}, {model['layers']} layers, {model['precision']}"
    cores, speed = figures["machine"]["cpus"], figures["http_pairs_per_second"]
    return Pod(cores, described, speed, single["p50"], single["p99"])


def plan(pod: Pod, requests_per_second: float, candidates: int, utilisation: float, spare: int) -> Plan:
    """Return the pods that are busy for at most `utilisation` of the time, and `spare` more.

    A request takes its pairs at the measured speed, and never less than one pair takes alone. The wait is that of a
    queue with random arrivals and equal requests (M/D/1), at the pods without the spare ones: an estimate.
    """
    seconds = max(candidates / pod.pairs_per_second, pod.single_pair_p50_ms / 1000)
    needed = requests_per_second * seconds / utilisation
    working = math.ceil(needed)
    busy = requests_per_second * seconds / working
    return Plan(working + spare, needed, busy, seconds, seconds * busy / (2 * (1 - busy)))


def report(pod: Pod, requests_per_second: float, candidates: int, utilisation: float, spare: int) -> str:
    """Return the plan as text."""
    made = plan(pod, requests_per_second, candidates, utilisation, spare)
    speed, one = pod.pairs_per_second, made.request_seconds
    return "\n".join(
        [
            f"measured  {speed:.1f} pairs/s on {pod.cores} cores, one pair alone {pod.single_pair_p50_ms:.1f} ms"
            f" ({pod.model})",
            f"load      {requests_per_second:g} requests/s x {candidates} candidates"
            f" = {requests_per_second * candidates:,.0f} pairs/s",
            f"request   max({candidates} / {speed:.1f} s, {pod.single_pair_p50_ms:.1f} ms) = {one * 1000:.0f} ms",
            f"pods      {requests_per_second:g} x {one:.4f} / {utilisation:g} = {made.needed:.2f}"
            f" -> {made.pods - spare}, and {spare} spare: {made.pods} pods, {made.pods * pod.cores} cores",
            f"expected  {made.busy:.0%} busy without the spare, mean wait {made.wait_seconds * 1000:.0f} ms (estimate)",
        ]
    )


def table(pod: Pod, loads: Sequence[float], counts: Sequence[int], utilisation: float, spare: int) -> str:
    """Return pods for each load (columns) and number of candidates (rows)."""
    lines = ["candidates " + "".join(f"{f'{load:g}/s':>9}" for load in loads)]
    for count in counts:
        pods = [plan(pod, load, count, utilisation, spare).pods for load in loads]
        lines.append(f"{count:<11}" + "".join(f"{number:>9}" for number in pods))
    return "\n".join(lines)


def largest(pod: Pod) -> str:
    """Return how many candidates one request may have to be scored in a given time on an idle pod."""
    lines = [f"one pair: p50 {pod.single_pair_p50_ms:.0f} ms, p99 {pod.single_pair_p99_ms:.0f} ms"]
    lines += [f"{ms:>4} ms: {int(pod.pairs_per_second * ms / 1000):>4} candidates" for ms in LATENCIES_MS]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python deploy/capacity.py", description=__doc__.splitlines()[0])
    made.add_argument("--requests-per-second", type=float, nargs="+", default=[], help="several print a table")
    made.add_argument("--candidates", type=int, nargs="+", default=[100], help="in a request; several print a table")
    made.add_argument("--utilisation", type=float, default=0.6, help="of the measured speed; above it waits grow fast")
    made.add_argument("--spare", type=int, default=1, help="pods more, for one that is lost or being replaced")
    made.add_argument("--figures", type=Path, default=FIGURES, help="JSON of benchmarks/serving/throughput.py")
    made.add_argument("--update", type=Path, help="a page whose shown outputs to renew")
    return made


def answer(arguments: Sequence[str]) -> str:
    """Return the output for these arguments. Without a load: the largest request by latency."""
    command = parser()
    given = command.parse_args(arguments)
    if not 0 < given.utilisation < 1 or given.spare < 0:
        command.error("expected a utilisation between 0 and 1, and 0 or more spare pods")
    if any(value <= 0 for value in (*given.requests_per_second, *given.candidates)):
        command.error("expected loads and numbers of candidates above 0")
    try:
        pod = read(given.figures)
    except (OSError, ValueError, KeyError, TypeError) as error:
        command.error(f"--figures {given.figures}: {error!r}; expected a result of benchmarks/serving/throughput.py")
    loads, counts = given.requests_per_second, given.candidates
    if given.update:
        return renew(given.update)
    if not loads:
        return largest(pod)
    if len(loads) == len(counts) == 1:
        return report(pod, loads[0], counts[0], given.utilisation, given.spare)
    return table(pod, loads, counts, given.utilisation, given.spare)


def renewed(page: str) -> str:
    """Return a page with the output of each of its commands."""
    return SHOWN.sub(
        lambda m: f"```console\n$ python deploy/capacity.py{m[1]}\n{answer(shlex.split(m[1]))}\n```",
        page,
    )


def renew(page: Path) -> str:
    """Update the outputs in a page."""
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
    return f"{page}: renewed"


if __name__ == "__main__":
    print(answer(sys.argv[1:]))
