"""Where base models come from, and what is cut off them before fine-tuning: upper layers and unused vocabulary.

Knows model folders in the form of transformers. Knows nothing of heads, labels or training.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from relevance.errors import CheckpointError, ConfigError, MachineError
from relevance.files import sha256_of, whole_folder
from training.models.packaged import CACHE_MEND, MODEL_LICENSE, MODEL_NAME, PROVENANCE_FILE, packaged_encoder
from training.models.quiet import quiet_tokenizers, quiet_weights
from training.models.vocabulary import check_scripts, needed_ids, trimmed_tokenizer

PACKAGED_PREFIX = "packaged:"
PACKAGED = ("multilingual-e5-small",)
ACCEPTED = f"expected {PACKAGED_PREFIX}{PACKAGED[0]}, a local model folder, or the id of a hub model within reach"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CONTENT_SUFFIXES = {".json", ".txt", ".model"}  # configuration, tokenizer and vocabulary: all that shapes scores
_STACK_NAMES = ("layer", "layers", "h")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model that can be loaded: `path` is a folder, or a hub id to be read at `revision`."""

    name: str
    path: Path | str
    license: str = "unknown"
    revision: str = "unknown"


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What to cut. `layers`: keep the first N. The vocabulary is trimmed where a corpus or a script is given.

    Of the vocabulary stays every token that occurs in `trim_corpus`, and every single character of `trim_scripts`
    (names in `SCRIPTS`), or with `whole_scripts` every token made of their characters only. Special tokens, digits,
    punctuation, symbols and ASCII characters always stay. Other texts fall into smaller tokens, or the unknown one.
    """

    layers: int | None = None
    trim_corpus: Iterable[str] | None = None
    trim_scripts: tuple[str, ...] = ()
    whole_scripts: bool = False

    @property
    def trims(self) -> bool:
        """Whether the vocabulary is to be trimmed."""
        return self.trim_corpus is not None or bool(self.trim_scripts)


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


def resolve_base_model(name: str, *, cache_dir: Path | None = None) -> BaseModel:
    """Return the base model that `name` stands for: `packaged:multilingual-e5-small`, a local folder, or a hub id.

    The packaged encoder is unpacked once into `cache_dir` (else `$RELEVANCE_CACHE`, else ~/.cache/relevance); of a hub
    model only the configuration is fetched here. Raises ConfigError where the name stands for nothing.
    """
    if name.startswith(PACKAGED_PREFIX):
        if name.removeprefix(PACKAGED_PREFIX) not in PACKAGED:
            raise ConfigError(f"base model {name!r}: no such packaged encoder; {ACCEPTED}")
        folder, revision = packaged_encoder(cache_dir or default_cache_dir())
        return BaseModel(MODEL_NAME, folder, MODEL_LICENSE, revision)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _local_model(folder)
    if not _HUB_ID.fullmatch(name):
        raise ConfigError(f"base model {name!r}: no such folder; {ACCEPTED}")
    return _hub_model(name)


def default_cache_dir() -> Path:
    """Return the folder of unpacked encoders: `$RELEVANCE_CACHE`, or ~/.cache/relevance.

    MachineError where neither is known.
    """
    if given := os.environ.get("RELEVANCE_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "relevance"
    except RuntimeError:  # no HOME, and the user is not in the system's list
        raise MachineError(f"home folder: none is known; {CACHE_MEND}") from None


def prepare_encoder(base: BaseModel, out: Path, options: EncoderOptions) -> EncoderReport:
    """Write `base`, cut as `options` say, as an ordinary transformers folder at `out`, whole or not at all.

    Heads of the base model are left out. The folder's `encoder.json` says what it was made of. Raises ConfigError
    for options that do not fit the model, and where `out` holds something other than a prepared encoder.
    """
    check_scripts(options.trim_scripts)
    _check_output(base, out)
    model, absent = _load_model(base)
    tokenizer = _load_tokenizer(base)
    before = _size(model, absent)
    if options.layers is not None:
        keep_first_layers(model, options.layers)
    if options.trims:
        kept = needed_ids(
            tokenizer,
            options.trim_corpus or (),
            options.trim_scripts,
            whole_scripts=options.whole_scripts,
            always=_flat(_config_token_ids(model).values()),
        )
        tokenizer = trimmed_tokenizer(tokenizer, kept)
        select_word_embeddings(model, kept)
    after = _size(model, absent)
    with whole_folder(out) as folder:
        weights = {key: value for key, value in model.state_dict().items() if key not in absent}
        model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        _write_provenance(folder, base, before, after)
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors makes its files readable to their owner only
    return EncoderReport(out, base, before, after)


def _check_output(base: BaseModel, out: Path) -> None:
    """Refuse to replace the base model itself, or anything that is not a prepared encoder."""
    if isinstance(base.path, Path) and out.resolve() == base.path.resolve():
        raise ConfigError(f"output {out}: is the base model's own folder; expected another")
    free = not out.exists() or (out / PROVENANCE_FILE).is_file() or (out.is_dir() and not any(out.iterdir()))
    if not free:
        raise ConfigError(f"output {out}: already there and no prepared encoder; expected a new or an empty folder")


def keep_first_layers(model: PreTrainedModel, layers: int) -> None:
    """Cut a model after its first `layers` layers, in place. Raises ConfigError where it has not that many.

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
    """Keep only the word embeddings of `ids`, in that order, in place; ids in the configuration, all in `ids`, follow.

    Raises CheckpointError where an id has no embedding.
    """
    embeddings = model.get_input_embeddings()
    if max(ids) >= embeddings.num_embeddings:
        raise CheckpointError(f"token id {max(ids)}: the model has only {embeddings.num_embeddings} word embeddings")
    token_ids = _config_token_ids(model)
    moved = {old: new for new, old in enumerate(ids)}
    embeddings.weight = nn.Parameter(embeddings.weight.detach()[torch.tensor(ids)].clone())
    embeddings.num_embeddings = len(ids)
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = moved[embeddings.padding_idx]
    for key, value in token_ids.items():
        setattr(model.config, key, [moved[i] for i in value] if isinstance(value, list) else moved[value])
    model.config.vocab_size = len(ids)


def _local_model(folder: Path) -> BaseModel:
    """Return a folder's model; a folder of `prepare_encoder` keeps the name and licence of what it was made of."""
    weights = sorted((*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")))
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigError(f"base model {folder}: expected a folder with config.json and *.safetensors (or *.bin)")
    files = {*weights, *(file for file in folder.iterdir() if file.suffix in _CONTENT_SUFFIXES)}
    files -= {folder / PROVENANCE_FILE}
    content = "".join(f"{file.name} {sha256_of(file)}\n" for file in sorted(files))
    digest = hashlib.sha256(content.encode()).hexdigest()
    provenance = folder / PROVENANCE_FILE
    base = json.loads(provenance.read_bytes())["base"] if provenance.is_file() else {}
    return BaseModel(
        base.get("name", folder.resolve().name), folder, base.get("license", "unknown"), f"content sha256 {digest}"
    )


def _hub_model(name: str) -> BaseModel:
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"base model {name!r}: cannot be loaded from a hub ({reason}); {ACCEPTED}") from None
    return BaseModel(name, name, revision=getattr(config, "_commit_hash", None) or "main")


def _where(base: BaseModel) -> dict[str, Any]:
    revision = {} if isinstance(base.path, Path) else {"revision": base.revision}
    return {"pretrained_model_name_or_path": base.path, **revision}


def _load_tokenizer(base: BaseModel) -> PreTrainedTokenizerFast:
    with quiet_tokenizers(), _naming_faults(base, "tokenizer"):
        return AutoTokenizer.from_pretrained(**_where(base))


def _load_model(base: BaseModel) -> tuple[PreTrainedModel, frozenset[str]]:
    """Return the encoder in float32 and the names of pooler weights that its files lack. Other lacks are errors."""
    with quiet_weights(), _naming_faults(base, "model"):
        model, info = AutoModel.from_pretrained(**_where(base), dtype=torch.float32, output_loading_info=True)
    absent = frozenset(info["missing_keys"])
    faults = sorted(key for key in absent if "pooler" not in key)
    if faults:
        raise CheckpointError(f"base model {base.path}: no weights for {faults}; {type(model).__name__} needs them")
    return model, absent


@contextlib.contextmanager
def _naming_faults(base: BaseModel, part: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"base model {base.path}: its {part} cannot be loaded ({reason})") from None


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


def _config_token_ids(model: PreTrainedModel) -> dict[str, int | list[int]]:
    """Return the ids of the configuration (`pad_token_id` and so on) that have a word embedding."""
    rows = model.get_input_embeddings().num_embeddings
    found = {}
    for key, value in model.config.to_dict().items():
        ids = value if isinstance(value, list) else [value]
        if key.endswith("_token_id") and ids and all(isinstance(i, int) and 0 <= i < rows for i in ids):
            found[key] = value
    return found


def _flat(values: Iterable[int | list[int]]) -> set[int]:
    return {i for value in values for i in (value if isinstance(value, list) else [value])}


def _write_provenance(folder: Path, base: BaseModel, before: EncoderSize, after: EncoderSize) -> None:
    content = {
        "base": {"name": base.name, "license": base.license, "revision": base.revision},
        "before": asdict(before),
        "after": asdict(after),
    }
    (folder / PROVENANCE_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
