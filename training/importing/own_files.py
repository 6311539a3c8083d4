"""What a model's own files say of its use, in the forms of transformers and sentence-transformers. Loads no weights."""

import json
import re
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import cached_file

from relevance.errors import CheckpointError
from training.fitting.servable import positions
from training.models.base.base_models import BaseModel

CROSS_ENCODER_FILE = "config_sentence_transformers.json"
TRANSFORMER_FILE = "sentence_bert_config.json"
MODULES_FILE = "modules.json"
LOGIT_SCORE = "LogitScore"  # the module that makes a score of the logits of one or two tokens
_ANY_LENGTH = 10**9  # tokenizers without a limit have a huge one
_LICENSE = re.compile(r"\A---\n(?:.*\n)*?license: *['\"]?([\w.+-]+)")


class OwnFiles:
    """The files beside a model's weights; a file that is not there says nothing."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._options = self._json(CROSS_ENCODER_FILE)
        self._transformer = self._json(TRANSFORMER_FILE)

    def modules(self) -> list[tuple[str, str]]:
        """Return the class and the folder of each module of a CrossEncoder, in their order."""
        found = self._json(MODULES_FILE, list)
        kept = (each for each in found if isinstance(each, dict))
        return [(str(each.get("type", "")).rpartition(".")[2], str(each.get("path", ""))) for each in kept]

    def answers(self) -> tuple[int | None, int | None]:
        """Return the token ids of yes and no that a CrossEncoder over a language model compares; None: not said."""
        for kind, folder in self.modules():
            if kind == LOGIT_SCORE:
                found = self._json(f"{folder}/config.json")
                ids = [found.get(name) for name in ("true_token_id", "false_token_id")]
                if not isinstance(ids[0], int) or not isinstance(ids[1], int | None):
                    raise CheckpointError(
                        f"model {self._base.path}: {folder}/config.json: token ids {ids}; it is damaged"
                    )
                return ids[0], ids[1]
        return None, None

    def prompt(self) -> str:
        """Return the default prompt of a CrossEncoder: before the query, or what a chat template has as its system."""
        chosen, prompts = self._options.get("default_prompt_name"), self._options.get("prompts") or {}
        if chosen is None:
            return ""
        if not isinstance(prompts, dict) or not isinstance(prompts.get(chosen), str):
            raise CheckpointError(
                f"model {self._base.path}: default_prompt_name {chosen!r} is not among its prompts {prompts}"
            )
        return str(prompts[chosen])

    def template_arguments(self) -> dict[str, Any]:
        """Return what a CrossEncoder gives its chat template beside the messages."""
        found = self._transformer.get("processing_kwargs")
        given = found.get("chat_template") if isinstance(found, dict) else None
        return {name: value for name, value in given.items() if name != "restore_suffix"} if given else {}

    def activation(self, config: PretrainedConfig) -> str:
        """Return the name of the activation that a CrossEncoder's files state, new or old."""
        own = getattr(config, "sentence_transformers", None)
        stated = [
            self._options.get("activation_fn"),
            own.get("activation_fn") if isinstance(own, dict) else None,
            getattr(config, "sbert_ce_default_activation_function", None),
        ]
        found = next((each for each in stated if isinstance(each, str)), "")
        return found.rpartition(".")[2].lower()

    def max_length(self, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> int | None:
        """Return the tokens of a pair, special tokens included; None where no file says it."""
        own = self._transformer.get("max_seq_length")
        stated = own if isinstance(own, int) else tokenizer.model_max_length
        limits = [stated if stated < _ANY_LENGTH else None, positions(config, tokenizer.pad_token_id)]
        return min((each for each in limits if each is not None), default=None)

    def licensed(self) -> BaseModel:
        """Return the model with the licence that the head of its README.md names, where none is known."""
        base = self._base
        if base.license != "unknown" or (path := self._path("README.md")) is None:
            return base
        found = _LICENSE.match(path.read_text(encoding="utf-8", errors="replace"))
        return BaseModel(base.name, base.path, found[1], base.revision) if found else base

    def _json(self, name: str, kind: type = dict) -> Any:
        """Return the content of a JSON file; an empty one where there is no such file, or its content is another."""
        path = self._path(name)
        if path is None:
            return kind()
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"model {self._base.path}: {name} is no JSON ({error}); it is damaged") from None
        return content if isinstance(content, kind) else kind()

    def _path(self, name: str) -> Path | None:
        source, revision = self._base.source["pretrained_model_name_or_path"], self._base.source.get("revision")
        found = cached_file(
            str(source),
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if found is None else Path(found)
