"""What `relevance train --plan` says of runs on one and on eight GPUs: memory of the first process, in GiB.

    python benchmarks/training/gpus.py benchmarks/training/gpus.json

Trains nothing, loads no weights and needs no GPU: a model is a tiny one whose configuration has the sizes of SHAPES.
The precision is given, since this machine's own may be another.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from relevance.tasks import LabeledPair, Pair  # noqa: E402
from tests.models import tiny_language_model, tiny_model  # noqa: E402
from training.data.provenance import now, source_commit  # noqa: E402
from training.fitting.plan import plan  # noqa: E402
from training.fitting.recipe import Recipe  # noqa: E402

GIB = 2**30
SHAPES = {
    "XLM-R large": {
        "family": "xlm-roberta",
        "vocab_size": 250002,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "max_position_embeddings": 514,
    },
    "Qwen3 0.6B": {
        "family": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "layer_types": None,
    },
}
CASES = [  # word embeddings are frozen in all, as by default
    ("XLM-R large", "layers and head", {"head": {"kind": "mean"}}),
    ("Qwen3 0.6B", "layers and head", {"head": {"kind": "yes_no"}}),
    ("Qwen3 0.6B", "LoRA of rank 32", {"head": {"kind": "yes_no"}, "lora": {"rank": 32}}),
]
TRAINING = {"batch_size": 128, "max_length": 160, "precision": "bf16", "evaluations": 1}
WORDS = "home & garden, red shoes " * 40


def planned(shape: str, changes: dict[str, object], processes: int, folder: Path) -> dict[str, object]:
    """Plan a run on rows as long as the recipe allows."""
    base = shaped(shape, folder)
    recipe = Recipe.model_validate(
        {"name": "planned", "task": "qi", "base_model": str(base), "training": TRAINING | {"processes": processes}}
        | changes
    )
    count = 2 * recipe.training.batch_size
    rows = [LabeledPair(Pair(f"red shoes {i}", WORDS), i % 2, str(i)) for i in range(count)]
    found = plan(recipe, rows, rows[:2], folder / "lacking")
    parts = ("weights", "gradients", "optimizer", "kept", "activations", "total")
    return {
        "processes": processes,
        "parameters": found.parameters,
        "trained": found.trained,
        "pairs_at_once": found.rows,
        "tokens": found.tokens,
        **{f"{part}_gib": round(getattr(found, part) / GIB, 2) for part in parts},
    }


def shaped(shape: str, folder: Path) -> Path:
    """Return a model folder whose configuration, not its weights, has the sizes of a shape."""
    sizes = dict(SHAPES[shape])
    family, base = sizes.pop("family"), folder / shape.replace(" ", "-")
    if not base.exists():
        (tiny_model if family == "xlm-roberta" else tiny_language_model)(base, family)
        file = base / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | sizes))
    return base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for shape, trained, changes in CASES:
            for processes in (1, 8):
                runs.append({"model": shape, "learns": trained} | planned(shape, changes, processes, Path(folder)))
                print(runs[-1])
    content = {"command": "python benchmarks/training/gpus.py benchmarks/training/gpus.json", "created": now()}
    content |= {"source_commit": source_commit(), "training": TRAINING, "shapes": SHAPES, "runs": runs}
    given.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
