"""The `ctranslate2` backend: encoder-decoder models (M2M100, NLLB, MADLAD-400, Marian) converted with CTranslate2.

A model folder holds the converted model and its tokenizer's files; `convert_model` makes such a folder.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from relevance.errors import ConfigError, MachineError
from relevance.storage.files import whole_folder
from relevance.storage.strict import StrictModel
from training.data.provenance import content_of
from training.endpoint.budget import Cost
from training.endpoint.errors import StoppedError
from training.models.base.quiet import quiet_tokenizers
from training.sources import code_key
from training.translation.backends.families import Family, family_of

if TYPE_CHECKING:
    from types import ModuleType

    from transformers import PreTrainedTokenizerBase

_LANGUAGE_TOKEN = re.compile(r"__\w+__|>>\w+<<|<2\w+>")  # not all tokenizers know them as special


class CTranslate2Options(StrictModel):
    """Where the model is and how it runs. A larger `batch_size` is faster on a GPU and takes more memory."""

    folder: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = Field("default", description="of CTranslate2, as int8 or float16; default: as converted")
    beam_size: int = Field(4, gt=0)
    batch_size: int = Field(64, gt=0, description="texts at once; a call's texts are sorted by length first")
    longest_tokens: int = Field(96, gt=0, description="of a translation; cuts off models that repeat themselves")
    threads: int = Field(0, ge=0, description="CPU threads; 0: CTranslate2 chooses")


class CTranslate2Translator:
    """Translates with a converted model. Searches by beam, so that equal texts get equal translations.

    ConfigError where the folder is no converted model with its tokenizer, or the model is of an unknown family.
    """

    cost = Cost()

    def __init__(self, options: CTranslate2Options) -> None:
        folder = options.folder
        for file in ("model.bin", "config.json", "tokenizer_config.json"):
            if not (folder / file).is_file():
                raise ConfigError(
                    f"translation model {folder}: no {file}; expected a folder that `convert_model` made, or "
                    "ct2-transformers-converter with the tokenizer's files copied in"
                )
        self.name = f"ctranslate2:{folder.resolve().name}"
        self.batch_size = options.batch_size * 8  # room to sort by length
        self._options = options
        self._tokenizer = _tokenizer(folder)
        self._family: Family = family_of(self._tokenizer, folder)
        try:
            self._model = _package().Translator(
                str(folder), device=options.device, compute_type=options.compute_type, intra_threads=options.threads
            )
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"translation model {folder}: cannot be loaded ({error})") from None
        run = [self._model.device, self._model.compute_type]
        code = code_key("training.translation.backends.ctranslate2:CTranslate2Translator")
        content = json.dumps([content_of(folder), run, code])
        self._digest = hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def key(self) -> str:
        """A digest of the model's files, search, device, arithmetic and program; the folder's name does not matter."""
        return f"ctranslate2 {self._digest} beam {self._options.beam_size} longest {self._options.longest_tokens}"

    def supports(self, source: str, target: str) -> bool:
        """Whether the model reads `source` and writes `target`."""
        return source != target and self._family.is_source(source) and self._family.code(target) is not None

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Return one translation per text; None if the model writes nothing. ConfigError for unknown languages."""
        code = self._family.code(target)
        if code is None or not self.supports(source, target):
            raise ConfigError(f"translation model {self._options.folder}: cannot translate {source!r} into {target!r}")
        tokens = [self._tokens(text, source, code) for text in texts]
        prefix = self._family.target_prefix(code)
        try:
            results = self._model.translate_batch(
                tokens,
                target_prefix=[prefix] * len(tokens) if prefix else None,
                max_batch_size=self._options.batch_size,
                beam_size=self._options.beam_size,
                max_decoding_length=self._options.longest_tokens,
            )
        except RuntimeError as error:
            raise StoppedError(f"{self.name}: {error}; expected room on the device") from error
        return [self._text(result.hypotheses[0], len(prefix)) for result in results]

    def _tokens(self, text: str, source: str, code: str) -> list[str]:
        setting = self._family.source_setting(source)
        if setting is not None:
            self._tokenizer.src_lang = setting
        return self._tokenizer.convert_ids_to_tokens(self._tokenizer.encode(self._family.text_prefix(code) + text))

    def _text(self, tokens: list[str], prefix: int) -> str | None:
        kept = [token for token in tokens[prefix:] if not _LANGUAGE_TOKEN.fullmatch(token)]
        ids = self._tokenizer.convert_tokens_to_ids(kept)
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return " ".join(text.split()) or None


def convert_model(name: str, out: Path, quantization: str = "int8") -> None:
    """Convert a transformers model (a folder or a hub id) and put its tokenizer beside it, whole or not at all.

    ConfigError where the model cannot be found or is of an architecture that CTranslate2 does not know, and for an
    unknown quantization (int8, int8_float16, int8_bfloat16, float16, bfloat16, float32).
    """
    converters = _package().converters
    try:
        with whole_folder(out) as folder:
            converters.TransformersConverter(name).convert(str(folder), quantization=quantization, force=True)
            _tokenizer(Path(name)).save_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"translation model {name!r}: cannot be converted ({error})") from None


def _tokenizer(source: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        with quiet_tokenizers():
            return AutoTokenizer.from_pretrained(str(source))
    except ImportError as error:
        raise MachineError(f"tokenizer of {source}: {str(error).strip().splitlines()[0]}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer of {source}: cannot be loaded ({error})") from None


def _package() -> "ModuleType":
    try:
        import ctranslate2
        import ctranslate2.converters
    except ModuleNotFoundError:
        raise MachineError("package 'ctranslate2' is not installed; expected it for this translator") from None
    return ctranslate2
