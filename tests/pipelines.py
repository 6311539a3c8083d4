"""A small pipeline for tests: rows, a memory, a tiny random encoder and the recipe over them."""

import json
import subprocess
from pathlib import Path

from relevance.tasks import LabeledPair, Pair, Task
from tests import commands
from tests.models import tiny_model
from training.data.splits import write_pairs
from training.pipeline.recipe import PipelineRecipe

PATHS = [f"{top},{leaf}" for top in ("home", "sport", "garden") for leaf in ("cups", "shoes", "lamps", "balls")]
GERMAN = {"cups": "tassen", "shoes": "schuhe", "lamps": "lampen", "balls": "bälle"}

RECIPE = """
name = "tiny"
task = "qc"
base_model = "{base}"

[training]
epochs = 2
batch_size = 16
evaluations = 2
learning_rate = 2e-3

[data]
train = ["{folder}/train.jsonl"]

[split]
dev = 0.2
test = 0.2

[translation]
enabled = true
backends = ["memory:{folder}/memory.jsonl"]
targets = ["de"]
gates = {{ similarity = false, language = false }}

[negatives]
enabled = true
strategy = "random"
negative_rate = 0.5

[filtering]
enabled = true
folds = 2
dev_share = 0.2
methods = ["boundary"]
band = 0.5
worst_share = 0.1
least_auc = 0

[export]
enabled = false
"""


def labelled(count: int) -> list[LabeledPair]:
    """Rows whose label says whether the path holds the thing of the query: one in four is negative."""
    made = []
    for n in range(count):
        path, label = PATHS[n % 12], int(n % 4 != 0)
        thing = (path if label else PATHS[(n + 5) % 12]).split(",")[1]
        made.append(LabeledPair(Pair(f"{thing} number {n // 2}", path, "en"), label, str(n)))
    return made


def write_inputs(folder: Path, rows: int = 120) -> Path:
    """Write rows, memory, encoder and recipe into `folder`; return the recipe's path."""
    made = labelled(rows)
    write_pairs(folder / "train.jsonl", made, Task.QC)
    units = []
    for query in dict.fromkeys(row.pair.query for row in made):
        thing, rest = query.split(" ", 1)
        units.append({"language": "en", "text": query, "translations": {"de": f"{GERMAN[thing]} {rest}"}})
    (folder / "memory.jsonl").write_text("".join(json.dumps(unit) + "\n" for unit in units), encoding="utf-8")
    base = tiny_model(folder / "encoder")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(base=base, folder=folder), encoding="utf-8")
    return recipe


def load(recipe: Path, *overrides: str) -> PipelineRecipe:
    """Read the recipe."""
    return PipelineRecipe.load(recipe, overrides)


def command(*arguments: object) -> list[str]:
    """Return the command line of `relevance pipeline`."""
    return [*commands.RELEVANCE, "pipeline", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `relevance pipeline` in a process of its own."""
    return commands.run(command(*arguments))
