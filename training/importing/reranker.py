"""A classifier of pairs as its own library uses it: the reference that an imported checkpoint has to agree with.

Reads folders and hub models of transformers (`AutoModelForSequenceClassification`) and of sentence-transformers
(`CrossEncoder`), which adds a prompt and an activation in files of its own. Knows no checkpoints of this project.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file

from relevance.errors import CheckpointError, ConfigError
from training.fitting.servable import positions
from training.models.base.base_models import BaseModel, load_base_tokenizer, naming_faults, resolve_base_model
from training.models.base.quiet import quiet_weights

BATCH = 8
_ANY_LENGTH = 10**9  # tokenizers without a limit have a huge one
_SUFFIX = "ForSequenceClassification"
_LICENSE = re.compile(r"\A---\n(?:.*\n)*?license: *['\"]?([\w.+-]+)")
EXPECTED = f"expected a model whose architecture ends in {_SUFFIX}, or a CrossEncoder of sentence-transformers over one"


@dataclass(frozen=True)
class Reranker:
    """A loaded classifier, and what its own files say of its use.

    `prompt` stands before every query. `activation` is the function that its library applies to the outputs, by name
    and in lower case (`sigmoid`, `identity`); empty where its files name none.
    """

    base: BaseModel
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_length: int | None
    prompt: str
    activation: str

    @property
    def labels(self) -> list[str]:
        """The names of the outputs, in their order."""
        names = self.model.config.id2label
        return [str(names.get(place, place)) for place in range(self.model.config.num_labels)]

    @torch.inference_mode()
    def outputs(self, pairs: Sequence[tuple[str, str]], max_length: int) -> NDArray[np.float32]:
        """Return the outputs [N, L] before any activation, of (query, document) texts, prompt included."""
        parts = []
        for start in range(0, len(pairs), BATCH):
            queries, documents = zip(*pairs[start : start + BATCH], strict=True)
            read = self.tokenizer(
                list(queries),
                list(documents),
                padding=True,
                truncation="longest_first",
                max_length=max_length,
                return_tensors="pt",
            )
            parts.append(self.model(**read).logits.numpy())
        return np.concatenate(parts)


def load_reranker(name: str) -> Reranker:
    """Load a local folder or a hub model. Raises ConfigError or CheckpointError where it is no classifier of pairs."""
    base = resolve_base_model(name)
    _check_kind(base)
    modules = _file(base, "modules.json")
    if isinstance(modules, list) and len(modules) > 1:
        names = [str(each.get("type", "")).rpartition(".")[2] for each in modules if isinstance(each, dict)]
        raise ConfigError(f"model {name}: its modules are {', '.join(names)}; expected a classifier alone; {EXPECTED}")
    tokenizer, model = load_base_tokenizer(base), _load(base)
    if not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise ConfigError(f"model {name}: its tokenizer {kind} has no fast form; expected one with a tokenizer.json")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"model {name}: its tokenizer has neither a padding nor an end token; expected one")
        tokenizer.pad_token = tokenizer.eos_token
    if len(tokenizer) > (rows := model.get_input_embeddings().num_embeddings):
        raise CheckpointError(f"model {name}: its tokenizer has {len(tokenizer)} tokens, its model {rows}")
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # decoders find a row's last token by it
    options = _file(base, "config_sentence_transformers.json")
    activation = _activation(options, model.config)
    length = _max_length(base, tokenizer, model.config)
    return Reranker(_licensed(base), model, tokenizer, length, _prompt(options, name), activation)


def _check_kind(base: BaseModel) -> None:
    """Raise ConfigError where a model has no classifier, or needs code of its own."""
    with naming_faults(base, "model"):
        config = AutoConfig.from_pretrained(**base.source, trust_remote_code=False)
    named = list(config.architectures or ())
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or (
        named and not any(each.endswith(_SUFFIX) for each in named)
    ):
        raise ConfigError(f"model {base.path}: its architecture is {', '.join(named) or config.model_type}; {EXPECTED}")


def _load(base: BaseModel) -> PreTrainedModel:
    """Return the classifier in fp32 and evaluation mode."""
    with quiet_weights(), naming_faults(base, "model"):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            **base.source, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    if faults := sorted({*info["missing_keys"], *(str(each[0]) for each in info["mismatched_keys"])}):
        raise CheckpointError(f"model {base.path}: no weights for {', '.join(faults[:5])}; {EXPECTED}")
    return model.eval()


def _file(base: BaseModel, name: str) -> Any:
    """Return the content of a JSON file beside the model; None where there is none."""
    path = _path(base, name)
    if path is None:
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"model {base.path}: {name} is no JSON ({error}); it is damaged") from None


def _path(base: BaseModel, name: str) -> Path | None:
    source, revision = base.source["pretrained_model_name_or_path"], base.source.get("revision")
    found = cached_file(
        str(source),
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _prompt(options: Any, name: str) -> str:
    """Return the default prompt of a CrossEncoder, which it puts before the query."""
    options = options if isinstance(options, dict) else {}
    chosen, prompts = options.get("default_prompt_name"), options.get("prompts") or {}
    if chosen is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(chosen), str):
        raise CheckpointError(f"model {name}: default_prompt_name {chosen!r} is not among its prompts {prompts}")
    return str(prompts[chosen])


def _activation(options: Any, config: PretrainedConfig) -> str:
    """Return the name of the activation that a CrossEncoder's files state, new or old."""
    own = getattr(config, "sentence_transformers", None)
    stated = [
        options.get("activation_fn") if isinstance(options, dict) else None,
        own.get("activation_fn") if isinstance(own, dict) else None,
        getattr(config, "sbert_ce_default_activation_function", None),
    ]
    found = next((each for each in stated if isinstance(each, str)), "")
    return found.rpartition(".")[2].lower()


def _max_length(base: BaseModel, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> int | None:
    """Return the tokens of a pair, special tokens included, by the model's own files; None where they say nothing."""
    options = _file(base, "sentence_bert_config.json")
    own = options.get("max_seq_length") if isinstance(options, dict) else None
    stated = own if isinstance(own, int) else tokenizer.model_max_length
    limits = [stated if stated < _ANY_LENGTH else None, positions(config, tokenizer.pad_token_id)]
    return min((each for each in limits if each is not None), default=None)


def _licensed(base: BaseModel) -> BaseModel:
    """Return the model with the licence that the head of its README.md names, where none is known."""
    if base.license != "unknown" or (path := _path(base, "README.md")) is None:
        return base
    found = _LICENSE.match(path.read_text(encoding="utf-8", errors="replace"))
    return BaseModel(base.name, base.path, found[1], base.revision) if found else base
