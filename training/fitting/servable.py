"""Checks before training that the model can be trained and will end in a bundle."""

from transformers import PretrainedConfig

from relevance.errors import ConfigError
from relevance.text.tokenization import PairTokenizer, answer_ids
from training.fitting.recipe import Recipe
from training.models.base.base_models import BaseModel, load_base_config, load_base_tokenizer

# Tested from training over export and verification to a score over HTTP (docs/families.md).
SERVABLE = frozenset({"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "gemma3"})
SERVABLE |= {"gemma3_text", "llama", "modernbert", "mpnet", "qwen2", "qwen3", "roberta", "xlm-roberta"}
SERVABLE |= {"xlm-roberta-xl"}
NO_EXPORT = "it has no ONNX export here"
REFUSED = {"xlnet": NO_EXPORT} | dict.fromkeys(("mt5", "t5", "umt5"), "it is an encoder-decoder")
# Their positions begin after the padding id.
COUNT_FROM_PADDING = frozenset({"camembert", "roberta", "xlm-roberta", "xlm-roberta-xl"})


def check_family(base: BaseModel) -> None:
    """Raise ConfigError where models of this architecture cannot be exported; the message says what to use instead."""
    family = load_base_config(base).model_type
    reason = REFUSED.get(family)
    if reason is None and family not in SERVABLE and not _has_export(family):
        reason = NO_EXPORT
    if reason is not None:
        raise ConfigError(
            f"base model {base.path}: architecture {family!r} cannot be served, {reason}; use one of XLM-R, BERT, "
            "ModernBERT, DeBERTa, Qwen3 or their kin"
        )


def check_base(recipe: Recipe, base: BaseModel) -> None:
    """Raise ConfigError or InputError where a base model cannot be served, or adapters or prompt do not fit it."""
    check_family(base)
    check_adapters(recipe, base)
    check_prompt(recipe, base)


def check_adapters(recipe: Recipe, base: BaseModel) -> None:
    """Raise ConfigError where weights are to be held in 4 bits and the architecture was never tried so."""
    family = load_base_config(base).model_type
    if recipe.lora.load_in_4bit and family not in SERVABLE:
        raise ConfigError(
            f"lora.load_in_4bit: base model {base.path}: architecture {family!r} was not tried so; expected false, "
            f"or one of {', '.join(sorted(SERVABLE))}"
        )


def check_prompt(recipe: Recipe, base: BaseModel) -> None:
    """Raise InputError where the prompt fills `training.max_length`, or an answer is not one token after it."""
    if (prompt := recipe.decided_prompt) is not None:
        tokenizer = load_base_tokenizer(base)
        answer_ids(tokenizer.backend_tokenizer, prompt)
        PairTokenizer(tokenizer.backend_tokenizer, recipe.training.max_length, 0, prompt)


def check_lengths(recipe: Recipe, config: PretrainedConfig, tokenizer: PairTokenizer) -> None:
    """Raise ConfigError where pairs can be longer than the model's positions, or nothing separates their texts."""
    found = positions(config, tokenizer.pad_id)
    if found is not None and found < recipe.training.max_length:
        raise ConfigError(f"training.max_length {recipe.training.max_length}: the model has {found} positions")
    if not tokenizer.template.middle and not recipe.format.candidate_prefix:
        raise ConfigError(
            f"format.candidate_prefix is empty: the tokenizer of {recipe.base_model} puts nothing between query and "
            "candidate; expected a prefix that separates them, as ' category: '"
        )


def positions(config: PretrainedConfig, pad_id: int) -> int | None:
    """Return how many tokens a model can read; None: any number."""
    found: int = getattr(config, "max_position_embeddings", None) or -1  # -1: any length
    if found > 0 and config.model_type in COUNT_FROM_PADDING:
        found -= pad_id + 1
    return found if found > 0 else None


def _has_export(family: str) -> bool:
    """Return whether optimum can export the architecture; imports are slow, so only uncommon ones are looked up."""
    try:
        from optimum.exporters.onnx import model_configs  # noqa: F401 - registers the architectures
        from optimum.exporters.tasks import TasksManager
    except ImportError:  # not installed, or made for another version of transformers
        return False
    return family in TasksManager.get_supported_model_type_for_task("text-classification", "onnx")
