"""Low-rank adapters on all linear layers of an encoder (LoRA, Hu et al. 2021), by peft. Needs the extra `lora`.

The base weights are frozen. A head that starts at random is trained whole; the pretrained rows of a `yes_no` head are
frozen too, so that base model and adapter together are the trained model. The base weights may be held in 4 bits
(QLoRA, Dettmers et al. 2023; training.models.nf4).
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from relevance.errors import CheckpointError, ConfigError
from relevance.model.heads import HeadKind
from training.models.base.packaged import PROVENANCE_FILE
from training.models.base.quiet import quiet_kernels
from training.models.cross_encoder import CrossEncoder
from training.models.dropout import use_byte_dropout
from training.models.nf4 import NF4Linear, pack, unpack
from training.models.options import LoraOptions

ADAPTER_FOLDER = "adapter"  # in a checkpoint
WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"  # peft's own names
NO_ADAPTER = f"expected the folder {ADAPTER_FOLDER}/ of a checkpoint that was trained with [lora]"
_FRESH = "pooler"  # of stock heads: it starts at random, and is trained whole
_WRAPPED = "base_model.model."  # peft's prefix of the names within a model


class Adapter:
    """Adapters of a cross-encoder, which is changed in place; `encoder` is the folder of its prepared base model."""

    def __init__(self, model: CrossEncoder, options: LoraOptions, encoder: Path) -> None:
        # Heavy, and of an extra. Imports bitsandbytes where it is installed.
        with quiet_kernels():
            from peft import LoraConfig, get_peft_model

        self._encoder = encoder
        bare = model.encoder.base_model
        linear = [name for name, module in bare.named_modules() if isinstance(module, nn.Linear)]
        fresh = [name for name in linear if _FRESH in name.split(".")]
        pretrained = [name for name in linear if name not in fresh]
        if not pretrained:
            family = model.encoder.config.model_type
            raise ConfigError(f"lora.rank: architecture {family!r} has no torch.nn.Linear to adapt; expected 0")
        if options.load_in_4bit:
            for name in pretrained:
                pack(bare.get_submodule(name))
        self._answers = model.spec.kind is HeadKind.YES_NO
        self._adapted = get_peft_model(
            bare,
            LoraConfig(
                r=options.rank,
                lora_alpha=options.decided_alpha,
                lora_dropout=options.dropout,
                target_modules=sorted({name.rpartition(".")[2] for name in pretrained}),
                exclude_modules=fresh or None,
            ),
        )
        for name, parameter in bare.named_parameters():
            if _FRESH in name.split("."):
                parameter.requires_grad_(True)
        if self._answers:
            model.head.requires_grad_(False)
        use_byte_dropout(model)
        if options.start is not None:
            self._begin_with(options.start)

    def finish(self, checkpoint: Path) -> None:
        """Write the adapters into a folder of the checkpoint, in peft's format, and merge them into the weights.

        Weights in 4 bits are unpacked first, on the CPU, where there is room for them. What the adapters were trained
        beside are these and not the base model's own: merged into those they would give other scores.
        """
        folder = checkpoint / ADAPTER_FOLDER
        folder.mkdir()
        config = self._adapted.peft_config["default"]
        config.task_type = "CAUSAL_LM" if self._answers else "FEATURE_EXTRACTION"
        config.base_model_name_or_path = _provenance(self._encoder)["base"]["name"]
        config.inference_mode = True
        config.save_pretrained(folder)
        weights = {name.replace(_WRAPPED, self._inner, 1): value for name, value in self._weights().items()}
        save_file(weights, folder / WEIGHTS_FILE, {"format": "pt"})
        shutil.copyfile(self._encoder / PROVENANCE_FILE, folder / PROVENANCE_FILE)
        if packed := [module for module in self._adapted.modules() if isinstance(module, NF4Linear)]:
            self._adapted.to("cpu")
            for module in packed:
                unpack(module)
        self._adapted.merge_and_unload(safe_merge=True)

    @property
    def _inner(self) -> str:
        """The prefix of the names in files: a language model keeps its layers one level deeper or two."""
        place = _provenance(self._encoder).get("place", "model")  # encoders of older releases do not say it
        return f"{_WRAPPED}{place}." if self._answers else _WRAPPED

    def _weights(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    def _begin_with(self, folder: Path) -> None:
        """Start with the adapters of a checkpoint. Raises ConfigError where they are of another base model or shape."""
        from peft import set_peft_model_state_dict

        check_start(folder, self._encoder)
        try:
            found = load_file(folder / WEIGHTS_FILE)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"adapter {folder}: {WEIGHTS_FILE} cannot be read ({error}); {NO_ADAPTER}") from None
        found = {name.replace(self._inner, _WRAPPED, 1): value for name, value in found.items()}
        own, given = ({name: tuple(value.shape) for name, value in each.items()} for each in (self._weights(), found))
        if own != given:
            name = min(name for name in {*own, *given} if own.get(name) != given.get(name))
            raise ConfigError(
                f"adapter {folder}: {name} has the shape {given.get(name)}, expected {own.get(name)}; take the same "
                "lora.rank and head.kind"
            )
        set_peft_model_state_dict(self._adapted, found)


def check_start(folder: Path, encoder: Path) -> None:
    """Raise ConfigError where an adapter is of another base model than the prepared one, or of it cut otherwise."""
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"adapter {folder}: no {CONFIG_FILE}; {NO_ADAPTER}")
    found, expected = _provenance(folder), _provenance(encoder)
    for part in ("base", "after"):
        if found[part] != expected[part]:
            raise ConfigError(
                f"adapter {folder}: it was trained on {_told(found)}; expected {_told(expected)}, the base model of "
                "this recipe"
            )


def _told(provenance: dict[str, Any]) -> str:
    base, after = provenance["base"], provenance["after"]
    return f"{base['name']} ({base['revision'][:32]}), {after['layers']} layers, {after['vocabulary']} tokens"


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / PROVENANCE_FILE).read_bytes()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {PROVENANCE_FILE} cannot be read ({error}); {NO_ADAPTER}") from None
