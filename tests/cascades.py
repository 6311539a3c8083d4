"""Makes a real cascade bundle that is tiny: two seeded models that both say something of the labels."""

import json
from pathlib import Path

import numpy as np

from export.cascading import make_cascade
from relevance.model.bundle import Manifest
from relevance.scorer import Scorer
from relevance.tasks import Pair, Task
from tests.tiny import tiny_bundle

DEV_PAIRS = 600
WORDS = ("red", "shoes", "cups", "家", "garden", "zapatos", "mug", "phone", "靴", "lamp", "blue", "desk")


def some_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return pairs of random words, English and Japanese in turn."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(2 * count)]
    return [Pair(texts[n], texts[n + count], ("en", "ja")[n % 2]) for n in range(count)]


def two_bundles(root: Path, task: Task = Task.QC) -> tuple[Path, Path]:
    """Write a small and a larger tiny bundle."""
    tiny_bundle(root / "small", task, seed=0)
    tiny_bundle(root / "large", task, seed=1, depth=2)
    return root / "small", root / "large"


def write_dev(file: Path, small: Path, large: Path, count: int = DEV_PAIRS) -> Path:
    """Write rows whose labels both models have a part in, the large one the larger part."""
    pairs, rng = some_pairs(count), np.random.default_rng(1)
    distances = []
    for folder in (small, large):
        scorer = Scorer.open(folder, device="cpu", threads=1)
        cuts = scorer.manifest.thresholds([pair.language for pair in pairs])
        distances.append(scorer.score(pairs).logits - np.log(cuts / (1 - cuts)))
    truth = sum(weight * each / each.std() for weight, each in zip((1.0, 1.5), distances, strict=True))
    truth = truth + 0.5 * rng.normal(size=count) - 1.0
    field = Scorer.open(small, device="cpu", threads=1).manifest.task.candidate_field
    rows = [
        {"origin_query": pair.query, field: pair.candidate, "language": pair.language, "label": int(value > 0)}
        for pair, value in zip(pairs, truth, strict=True)
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def tiny_cascade(root: Path, max_f1_loss: float = 0.002, task: Task = Task.QC) -> Manifest:
    """Write `root/small`, `root/large`, `root/dev.jsonl` and the cascade `root/both`; return its manifest."""
    small, large = two_bundles(root, task)
    return make_cascade(small, large, root / "both", write_dev(root / "dev.jsonl", small, large), max_f1_loss)
