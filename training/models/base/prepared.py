"""A base model cut before fine-tuning: without its upper layers and its unused vocabulary."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from relevance.errors import CheckpointError, ConfigError
from relevance.model.card import HEAD_FILE
from relevance.storage.files import whole_folder
from relevance.text.prompt import Prompt
from relevance.text.tokenization import answer_ids
from training.models.base.answers import answer_rows
from training.models.base.base_models import (
    BaseModel,
    load_base_decoder,
    load_base_encoder,
    load_base_tokenizer,
    text_decoder,
)
from training.models.base.packaged import PROVENANCE_FILE
from training.models.base.quiet import quiet_bars
from training.models.base.vocabulary import check_scripts, needed_ids, trimmed_tokenizer

_STACK_NAMES = ("layer", "layers", "h")


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What to cut. `layers`: keep the first N. The vocabulary is trimmed where a corpus or a script is given.

    With `prompt`, the weights of a `yes_no` head for its answers are written too (HEAD_FILE).

    The vocabulary keeps every token that occurs in `trim_corpus`, and every single character of `trim_scripts` (names
    in `SCRIPTS`), or with `whole_scripts` every token made of their characters only. Special tokens, digits,
    punctuation, symbols and ASCII characters always stay. Other texts become smaller tokens, or the unknown one.
    """

    layers: int | None = None
    trim_corpus: Iterable[str] | None = None
    trim_scripts: tuple[str, ...] = ()
    whole_scripts: bool = False
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """How large an encoder is: layers, rows of its word embeddings, and parameters, all embeddings included."""

    layers: int
    vocabulary: int
    parameters: int


@dataclass(frozen=True, slots=True)
class EncoderReport:
    """What `prepare_encoder` made, and of what."""

    path: Path
    base: BaseModel
    before: EncoderSize
    after: EncoderSize


def prepare_encoder(base: BaseModel, out: Path, options: EncoderOptions) -> EncoderReport:
    """Write `base`, cut as `options` say, as an ordinary transformers folder at `out`, whole or not at all.

    Heads of the base model are left out. The folder's `encoder.json` says what it was made of. Raises ConfigError
    for options that do not fit the model, and where `out` holds something other than a prepared encoder.
    """
    check_scripts(options.trim_scripts)
    _check_output(base, out)
    tokenizer = load_base_tokenizer(base)
    model, absent, head, place = _loaded(base, tokenizer, options.prompt)
    before = _size(model, absent)
    if options.layers is not None:
        keep_first_layers(model, options.layers)
    if options.trim_corpus is not None or options.trim_scripts:
        always = [i for ids in _config_token_ids(model).values() for i in ids]
        corpus, scripts = options.trim_corpus or (), options.trim_scripts
        kept = needed_ids(tokenizer, corpus, scripts, whole_scripts=options.whole_scripts, always=always)
        tokenizer = trimmed_tokenizer(tokenizer, kept)
        select_word_embeddings(model, kept)
    report = EncoderReport(out, base, before, _size(model, absent))
    with whole_folder(out) as folder, quiet_bars():
        weights = {key: value for key, value in model.state_dict().items() if key not in absent}
        model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        if head:
            save_file(head, folder / HEAD_FILE)
        content = {
            "base": {"name": base.name, "license": base.license, "revision": base.revision},
            "before": asdict(before),
            "after": asdict(report.after),
            "place": place,  # of its weights in the base model's own files, which adapters name
        }
        (folder / PROVENANCE_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return report


def _loaded(
    base: BaseModel, tokenizer: PreTrainedTokenizerFast, prompt: Prompt | None
) -> tuple[PreTrainedModel, frozenset[str], dict[str, Tensor], str]:
    """Return the encoder and the names of its absent weights.

    With a prompt, also the weights of its head, and the name of the encoder within the language model.
    """
    if prompt is None:
        return *load_base_encoder(base), {}, ""
    model = load_base_decoder(base)
    decoder, head = text_decoder(model), answer_rows(model, answer_ids(tokenizer.backend_tokenizer, prompt))
    return decoder, frozenset(), head, next(name for name, module in model.named_modules() if module is decoder)


def keep_first_layers(model: PreTrainedModel, layers: int) -> None:
    """Cut a model after its first `layers` layers, in place. Raises ConfigError where it has fewer.

    A norm that follows the last layer stays, and follows the new last one.
    """
    parent, name = _layer_stack(model)
    stack = getattr(parent, name)
    if not 1 <= layers <= len(stack):
        raise ConfigError(f"layers {layers}: {type(model).__name__} has {len(stack)}; expected 1 to {len(stack)}")
    setattr(parent, name, stack[:layers])
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]


def select_word_embeddings(model: PreTrainedModel, ids: list[int]) -> None:
    """Keep only the word embeddings of `ids`, in that order, in place, and renumber the ids of the configuration.

    `ids` hold all ids of the configuration. Raises CheckpointError where an id has no embedding.
    """
    embeddings = model.get_input_embeddings()
    if max(ids) >= embeddings.num_embeddings:
        raise CheckpointError(f"token id {max(ids)}: the model has only {embeddings.num_embeddings} word embeddings")
    moved = {old: new for new, old in enumerate(ids)}
    for key, old in _config_token_ids(model).items():
        new = [moved[i] for i in old]
        setattr(model.config, key, new if isinstance(getattr(model.config, key), list) else new[0])
    embeddings.weight = nn.Parameter(embeddings.weight.detach()[torch.tensor(ids)].clone())
    embeddings.num_embeddings = len(ids)
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = moved[embeddings.padding_idx]
    model.config.vocab_size = len(ids)


def _check_output(base: BaseModel, out: Path) -> None:
    """Refuse to replace the base model itself, or anything that is not a prepared encoder."""
    if isinstance(base.path, Path) and out.resolve() == base.path.resolve():
        raise ConfigError(f"output {out}: is the base model's own folder; expected another")
    free = not out.exists() or (out / PROVENANCE_FILE).is_file() or (out.is_dir() and not any(out.iterdir()))
    if not free:
        raise ConfigError(f"output {out}: already there and no prepared encoder; expected a new or an empty folder")


def _size(model: PreTrainedModel, absent: frozenset[str]) -> EncoderSize:
    parameters = sum(p.numel() for name, p in model.named_parameters() if name not in absent)
    layers = getattr(model.config, "num_hidden_layers", 0)
    return EncoderSize(layers, model.get_input_embeddings().num_embeddings, parameters)


def _layer_stack(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """Return the module that holds the stack of layers, and the stack's name in it."""
    layers = getattr(model.config, "num_hidden_layers", None)
    for parent in model.modules():
        for name in _STACK_NAMES:
            stack = getattr(parent, name, None)
            if isinstance(stack, nn.ModuleList) and len(stack) == layers:
                return parent, name
    raise ConfigError(
        f"base model of type {model.config.model_type!r}: no list of {layers} layers named one of {_STACK_NAMES}; "
        "expected an encoder such as bert, xlm-roberta, distilbert or modernbert, or a decoder such as qwen2 or llama"
    )


def _config_token_ids(model: PreTrainedModel) -> dict[str, list[int]]:
    """Return the ids of the configuration (`pad_token_id` and so on, one or a list) that have a word embedding."""
    rows = model.get_input_embeddings().num_embeddings
    found = {}
    for key, value in model.config.to_dict().items():
        ids = value if isinstance(value, list) else [value]
        if key.endswith("_token_id") and ids and all(isinstance(i, int) and 0 <= i < rows for i in ids):
            found[key] = ids
    return found
