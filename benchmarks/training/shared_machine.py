"""Training speed next to busy processes: spinning or sleeping threads, one thread or all cores.

    python benchmarks/training/shared_machine.py [--seconds 15] [--out benchmarks/training/shared_machine.json]

Each setting trains the packaged encoder (6 layers) in a process of its own, next to 0 and then 1 busy loop. The script
also measures and reports what else ran on the machine (`others_busy`, in cores).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from relevance.model.cores import processor, usable_cores
from training.data.provenance import now, source_commit
from training.threads import PASSIVE, others_busy

HERE = Path(__file__).parent
BUSY = "while True: pass"
TRAIN = """
import sys, time, tempfile
from pathlib import Path
from relevance.tasks import LabeledPair, Pair
from training.fitting.loop import finetune
from training.fitting.checkpoint import Job, train
from training.fitting.recipe import Recipe
seconds = float(sys.argv[1])
class Over(Exception): pass
step, times = finetune.FineTuner._step, []
def timed(self, data, rows, number):
    loss = step(self, data, rows, number)
    times.append((time.monotonic(), len(rows)))
    if times[-1][0] - times[min(2, len(times) - 1)][0] > seconds:
        raise Over
    return loss
finetune.FineTuner._step = timed
words = "red blue shoe lamp cup phone case cable home garden sport".split()
rows = [LabeledPair(Pair(f"{words[n % 11]} {words[n % 7]} {n}", f"{words[n % 5]},{words[n % 3]}", "en"), n % 2, str(n))
        for n in range(4000)]
recipe = Recipe.model_validate({"name": "b", "task": "qc", "encoder": {"layers": 6}, "training": {"batch_size": 32}})
try:
    train(Job(recipe, rows, rows[:40], Path(tempfile.mkdtemp()) / "out"))
except Over:
    pass
import torch
warm = times[3:]
print(torch.get_num_threads(), sum(n for _, n in warm) / (warm[-1][0] - times[2][0]))
"""


def settings(cores: int) -> dict[str, dict[str, str]]:
    """Return the environment of each setting; a variable with an empty value is unset."""
    spinning = {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": "300000"}  # the default of libgomp
    return {
        "all cores, spinning": spinning | {"OMP_NUM_THREADS": str(cores)},
        "all cores, passive": PASSIVE | {"OMP_NUM_THREADS": str(cores)},
        "one thread": PASSIVE | {"OMP_NUM_THREADS": "1"},
        "as chosen": {"OMP_NUM_THREADS": "", "OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": ""},
    }


def measure(environment: dict[str, str], seconds: float) -> dict[str, float]:
    """Train for some seconds; return the rate [pairs/s], the threads, and how many cores others kept busy before."""
    variables = {name: value for name, value in (os.environ | environment).items() if value or name not in environment}
    others = others_busy(1.0)
    command = [sys.executable, "-c", TRAIN, str(seconds)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    threads, rate = done.stdout.split()
    return {"pairs_per_second": round(float(rate), 1), "threads": int(threads), "others_busy": round(others, 2)}


def main() -> None:
    """Measure every setting with no and with one busy process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "shared_machine.json")
    options = parser.parse_args()
    cores = usable_cores()
    found: list[dict[str, object]] = []
    for number in range(options.rounds):
        for busy in (0, 1):
            loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
            try:
                for name, environment in settings(cores).items():
                    row = {"setting": name, "busy_processes": busy, "round": number} | measure(
                        environment, options.seconds
                    )
                    print(row, file=sys.stderr, flush=True)
                    found.append(row)
            finally:
                for loop in loops:
                    loop.kill()
                    loop.wait()
    machine = {"processor": processor(), "cores": cores}
    content = {"command": " ".join(sys.argv), "created": now(), "source_commit": source_commit(), "machine": machine}
    options.out.write_text(json.dumps(content | {"runs": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
