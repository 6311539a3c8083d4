"""What a plan reads of a run's inputs: the lengths of its pairs, and the model that it would train, without weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoModelForSequenceClassification, PretrainedConfig

from relevance.errors import ConfigError
from relevance.model.heads import HeadKind
from relevance.model.inputs import PairInputs
from relevance.tasks import LabeledPair, Task
from relevance.text.tokenization import PairTokenizer
from training.data.stored.rows import candidates_of
from training.fitting.preparing import encoder_options
from training.fitting.recipe import Recipe
from training.fitting.rows.truncation import encode_rows
from training.fitting.servable import check_base, check_lengths
from training.models.base.base_models import (
    BaseModel,
    load_base_config,
    load_base_tokenizer,
    pad_id_of,
    resolve_base_model,
)
from training.models.base.prepared import EncoderOptions
from training.models.base.vocabulary import needed_ids
from training.models.cross_encoder import SCORED_TOKENS, CrossEncoder, dropout_of, head_spec, without_pooler
from training.models.first_token import keep_first_token
from training.models.memory import peak_bytes

Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A recipe fitted to its rows, the configuration of its cut base model, and the tokens of all pairs.

    `lengths` and `dev_lengths` are the tokens of each pair of train and dev; `ids` are all that occur.
    """

    recipe: Recipe
    config: PretrainedConfig
    tokenizer: PairTokenizer
    lengths: Ints
    dev_lengths: Ints
    ids: frozenset[int]

    @classmethod
    def of(cls, recipe: Recipe, train: Sequence[LabeledPair], dev: Sequence[LabeledPair]) -> "Inputs":
        """Read the rows. Raises what training raises where base model or prompt do not fit them."""
        base = resolve_base_model(recipe.base_model)
        form = recipe.format.fitted(recipe.task, candidates_of(train))
        recipe = recipe.model_copy(update={"format": form, "head": recipe.head.fitted(len(train))})
        check_base(recipe, base)
        config = _cut(load_base_config(base), base, encoder_options(recipe, train))
        whole = load_base_tokenizer(base)
        pad_id, longest = pad_id_of(whole, base.path), recipe.training.max_length
        tokenizer = PairTokenizer(whole.backend_tokenizer, longest, pad_id, recipe.decided_prompt)
        check_lengths(recipe, config, tokenizer)
        inputs = PairInputs(recipe.task, recipe.format, tokenizer)
        lengths, ids = _read(inputs, train, "train")
        dev_lengths, dev_ids = _read(inputs, dev, "dev")
        return cls(recipe, config, tokenizer, lengths, dev_lengths, frozenset(ids | dev_ids))

    def empty_model(self) -> CrossEncoder:
        """Return the model of a run, frozen and adapted as in training. Call on the device `meta`."""
        recipe, config = self.recipe, self.config
        head = recipe.decided_head
        levels = recipe.format.level_separator if recipe.task is Task.QC else ""
        spec = head_spec(self.tokenizer, head, config.hidden_size, levels)
        if spec.kind is HeadKind.STOCK:
            config.num_labels = 1
            encoder = AutoModelForSequenceClassification.from_config(config)
            keep_first_token(encoder)
        else:
            encoder = AutoModel.from_config(config, **without_pooler(config))
        model = CrossEncoder(encoder, spec, dropout_of(head))
        if recipe.encoder.freeze_word_embeddings:
            model.freeze_word_embeddings()
        if recipe.lora.rank:
            # Of an extra: imported where adapters are asked for.
            from training.models.lora import Adapter

            Adapter(model, recipe.lora.model_copy(update={"start": None}), Path())
        if recipe.training.gradient_checkpointing:
            model.checkpoint_layers()
        return model


def scoring_bytes(model: CrossEncoder, longest: int) -> int:
    """Return the bytes that scoring takes beside the model, where the longest pair has so many tokens."""
    return peak_bytes(lambda: _score(model, (max(1, SCORED_TOKENS // longest), longest)), model)


def empty_batch(model: CrossEncoder, shape: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Return the inputs of a model for pairs and tokens of this shape: ids, mask, types and features."""
    ids = torch.zeros(shape, dtype=torch.int64)
    return ids, torch.ones_like(ids), torch.zeros_like(ids), torch.zeros(shape[0], model.spec.features)


def _score(model: CrossEncoder, shape: tuple[int, int]) -> None:
    model.eval()
    with torch.no_grad():
        model(*empty_batch(model, shape))


def _read(inputs: PairInputs, rows: Sequence[LabeledPair], name: str) -> tuple[NDArray[np.int64], set[int]]:
    """Return the lengths of the pairs of rows in tokens, and the ids of all tokens."""
    lengths: list[NDArray[np.int64]] = []
    ids: set[int] = set()
    for block in encode_rows(inputs, rows, name):
        lengths.append(block.lengths)
        ids.update(np.unique(block.flat(np.arange(len(block)))[0]).tolist())
    return np.concatenate(lengths), ids


def _cut(config: PretrainedConfig, base: BaseModel, options: EncoderOptions) -> PretrainedConfig:
    """Return the configuration of the base model's text model, with the layers and tokens that stay."""
    config = config.get_text_config()
    if options.layers is not None:
        if options.layers > config.num_hidden_layers:
            most = config.num_hidden_layers
            raise ConfigError(f"layers {options.layers}: {base.name} has {most}; expected 1 to {most}")
        config.num_hidden_layers = options.layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: options.layers]
    if options.trim_corpus is not None:
        kept = needed_ids(
            load_base_tokenizer(base), options.trim_corpus, options.trim_scripts, whole_scripts=options.whole_scripts
        )
        config.vocab_size = len(kept)
    if (config.pad_token_id or 0) >= config.vocab_size:
        config.pad_token_id = None  # it is renumbered; only its place matters to no size
    config.use_cache = False
    return config
