"""The model of a run before its first step, as each process of the run builds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from relevance.tasks import Task
from relevance.text.tokenization import PairTokenizer
from training.fitting.loop.finetune import FineTuner
from training.fitting.loop.team import Team
from training.fitting.recipe import Recipe
from training.fitting.rows.examples import Examples
from training.fitting.servable import check_lengths
from training.models.cross_encoder import CrossEncoder, load_tokenizer
from training.models.lora import Adapter


@dataclass(frozen=True)
class Untrained:
    """A model with its tokenizer, and the adapters in it, if the recipe asks for them."""

    model: CrossEncoder
    tokenizer: PairTokenizer
    adapter: Adapter | None


def untrained(recipe: Recipe, encoder: Path) -> Untrained:
    """Return the model over a prepared base model's folder. Raises ConfigError where it does not fit the recipe."""
    tokenizer = load_tokenizer(encoder, recipe.training.max_length, recipe.decided_prompt)
    check_lengths(recipe, AutoConfig.from_pretrained(encoder), tokenizer)
    levels = recipe.format.level_separator if recipe.task is Task.QC else ""
    model = CrossEncoder.from_base(encoder, tokenizer, recipe.decided_head, levels)
    if recipe.encoder.freeze_word_embeddings:
        model.freeze_word_embeddings()
    adapter = Adapter(model, recipe.lora, encoder) if recipe.lora.rank else None
    return Untrained(model, tokenizer, adapter)


def follow(team: Team, recipe: Recipe, work: Path, encoder: Path, train: Path, ids: Sequence[int]) -> None:
    """Train with the leader of the team, whose weights replace those built here; return at its last order.

    The folder `train` holds the examples that the leader stored.
    """
    made = untrained(recipe, encoder)
    tuner = FineTuner(made.model, made.tokenizer, recipe.training, recipe.seed, work, team)
    tuner.follow(Examples.open(train), ids)
