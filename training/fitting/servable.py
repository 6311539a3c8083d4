"""Which base models can end in a bundle: asked before hours of training, not after them."""

from pathlib import Path

from torch import nn
from transformers import AutoConfig

from relevance.errors import ConfigError

# Go the whole way in a test: train, export, verify, a score over HTTP.
SERVABLE = frozenset({"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "llama"})
SERVABLE |= {"modernbert", "mpnet", "qwen2", "qwen3", "roberta", "xlm-roberta"}
USE_INSTEAD = "use one of XLM-R, BERT, ModernBERT, DeBERTa, Qwen3 or their kin"
NO_EXPORT = "it has no ONNX export here"
REFUSED = {
    "gemma3": NO_EXPORT,
    "gemma3_text": NO_EXPORT,
    "mt5": "it is an encoder-decoder",
    "t5": "it is an encoder-decoder",
    "umt5": "it is an encoder-decoder",
    "xlm-roberta-xl": NO_EXPORT,
    "xlnet": NO_EXPORT,
}
LARGEST_GRAPH = 2**31 - 2**20  # bytes in fp32: protobuf ends at 2 GiB


def check_family(base: Path | str, revision: str | None = None) -> None:
    """Raise ConfigError where models of this architecture cannot be exported, with the reason and what to use."""
    config = AutoConfig.from_pretrained(base, **({} if revision is None else {"revision": revision}))
    family = config.model_type
    reason = REFUSED.get(family)
    if reason is None and family not in SERVABLE:
        reason = None if _has_export(family) else NO_EXPORT
    if reason is not None:
        raise ConfigError(f"base model {base}: architecture {family!r} cannot be served, {reason}; {USE_INSTEAD}")


def check_size(model: nn.Module, base: str) -> None:
    """Raise ConfigError where a model is larger than what one ONNX file holds."""
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST_GRAPH:
        raise ConfigError(
            f"base model {base}: {size / 2**30:.1f} GiB in fp32, a bundle holds at most 2 GiB; keep fewer layers "
            "(encoder.layers), trim the vocabulary (encoder.trim_vocabulary), or take a smaller model"
        )


def _has_export(family: str) -> bool:
    """Say whether optimum knows an export for text classification; heavy, so asked for uncommon families only."""
    from optimum.exporters.onnx import model_configs  # noqa: F401 - registers the architectures
    from optimum.exporters.tasks import TasksManager

    known = TasksManager.get_supported_model_type_for_task("text-classification", "onnx")
    return family in known
