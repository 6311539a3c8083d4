"""A model of pairs as its own library uses it: the reference that an imported checkpoint has to agree with.

Reads folders and hub models of transformers and of sentence-transformers (`CrossEncoder`): classifiers
(`AutoModelForSequenceClassification`), which read a pair by the tokenizer's pair template or within a prompt, and
language models (`AutoModelForCausalLM`), which are asked for yes or no. Knows no checkpoints of this project.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from relevance.errors import CheckpointError, ConfigError
from relevance.text.prompt import Prompt
from training.importing.asked import answer_words, asked_prompt
from training.importing.options import ImportOptions
from training.importing.own_files import LOGIT_SCORE, OwnFiles
from training.models.base.base_models import (
    BaseModel,
    load_base_config,
    load_base_decoder,
    load_base_tokenizer,
    naming_faults,
    resolve_base_model,
)
from training.models.base.quiet import quiet_weights

BATCH = 8
_CLASSIFIER, _LANGUAGE_MODEL = "ForSequenceClassification", "ForCausalLM"
EXPECTED = (
    f"expected a model whose architecture ends in {_CLASSIFIER} or {_LANGUAGE_MODEL}, or a CrossEncoder of "
    "sentence-transformers over one"
)


@dataclass(frozen=True)
class Reranker:
    """A loaded model, and what its own files and the options say of its use.

    `prefix` stands before every query. `prompt` is what a pair stands in; None: the tokenizer's pair template.
    `answers` are the ids of yes and no of a language model; None: a classifier. `activation` is the function that its
    library applies to the outputs, by name and in lower case (`sigmoid`, `identity`); empty where its files name none.
    """

    base: BaseModel
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_length: int | None
    prefix: str
    prompt: Prompt | None
    answers: tuple[int, int] | None
    activation: str

    @property
    def labels(self) -> list[str]:
        """The names of the outputs, in their order."""
        if self.answers is not None and self.prompt is not None:
            return [self.prompt.yes]
        names = self.model.config.id2label
        return [str(names.get(place, place)) for place in range(self.model.config.num_labels)]

    @torch.inference_mode()
    def outputs(self, pairs: Sequence[tuple[str, str]], max_length: int) -> NDArray[np.float32]:
        """Return the outputs [N, L] before any activation, of (query, document) texts, prefix included.

        A language model has one: the logit of yes minus that of no, after the last token.
        """
        parts = []
        for start in range(0, len(pairs), BATCH):
            some = pairs[start : start + BATCH]
            read = self._paired(some, max_length) if self.prompt is None else self._asked(some, max_length)
            if self.answers is None:
                parts.append(self.model(**read).logits.numpy())
            else:
                yes, no = self.answers
                last = self.model(**read, logits_to_keep=1).logits[:, -1]  # padded on the left
                parts.append((last[:, yes] - last[:, no])[:, None].numpy())
        return np.concatenate(parts)

    def _paired(self, pairs: Sequence[tuple[str, str]], max_length: int) -> BatchEncoding:
        queries, documents = zip(*pairs, strict=True)
        return self.tokenizer(
            list(queries),
            list(documents),
            padding=True,
            truncation="longest_first",
            max_length=max_length,
            return_tensors="pt",
        )

    def _asked(self, pairs: Sequence[tuple[str, str]], max_length: int) -> dict[str, torch.Tensor]:
        """Return pairs in the prompt, as the users of such models write it: the end of the document is cut."""
        rows = [torch.tensor(ids) for ids in self._asked_ids(pairs, max_length)]
        masks = [torch.ones_like(row) for row in rows]
        side = "right" if self.answers is None else "left"
        pad = float(self.tokenizer.pad_token_id)
        ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side=side)
        return {"input_ids": ids, "attention_mask": pad_sequence(masks, batch_first=True, padding_side=side)}

    def _asked_ids(self, pairs: Sequence[tuple[str, str]], max_length: int) -> Iterator[list[int]]:
        assert self.prompt is not None
        before, between, after = self.prompt.parts
        plain, whole = self.tokenizer.encode("a", add_special_tokens=False), self.tokenizer.encode("a")
        begin = whole[: whole.index(plain[0])]  # `<s>` of Llama, unless the prompt begins with it itself
        end = self.tokenizer.encode(after, add_special_tokens=False)
        for query, document in pairs:
            ids = self.tokenizer.encode(f"{before}{query}{between}{document}", add_special_tokens=False)
            ids = ids if ids[: len(begin)] == begin else begin + ids
            yield ids[: max_length - len(end)] + end


def load_reranker(name: str, options: ImportOptions) -> Reranker:
    """Load a local folder or a hub model.

    Raises ConfigError or CheckpointError where it is no model of pairs, or an option does not fit it.
    """
    base = resolve_base_model(name)
    files = OwnFiles(base)
    asks = _is_language_model(base)
    _check_modules(name, files, asks=asks)
    tokenizer, model = _loaded(base, asks=asks)
    words, ids = ("yes", "no"), None
    if asks:
        ids, words = answer_words(name, tokenizer, files, options)
    elif options.yes is not None or options.no is not None:
        raise ConfigError(f"--yes and --no: model {name} is a classifier; expected a language model")
    prompt = asked_prompt(name, tokenizer, files, options, words)
    if asks and prompt is None:
        raise ConfigError(
            f"model {name}: it is a language model whose chat template has no places for a query and a document; "
            "expected --template with the prompt that it was trained with, as --template qwen3-reranker"
        )
    prefix = "" if prompt is not None else files.prompt() if options.prompt is None else options.prompt
    return Reranker(
        base=files.licensed(),
        model=model,
        tokenizer=tokenizer,
        max_length=files.max_length(tokenizer, model.config.get_text_config()),
        prefix=prefix,
        prompt=prompt,
        answers=ids,
        activation=files.activation(model.config),
    )


def _is_language_model(base: BaseModel) -> bool:
    """Return whether it is a language model, not a classifier. ConfigError where it is neither, or needs own code."""
    config = load_base_config(base)
    named = list(config.architectures or ())
    if any(each.endswith(_LANGUAGE_MODEL) for each in named):
        return True
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or (
        named and not any(each.endswith(_CLASSIFIER) for each in named)
    ):
        raise ConfigError(f"model {base.path}: its architecture is {', '.join(named) or config.model_type}; {EXPECTED}")
    return False


def _check_modules(name: str, files: OwnFiles, *, asks: bool) -> None:
    further = [kind for kind, _ in files.modules()][1:]
    if further not in ([], [LOGIT_SCORE] if asks else []):
        kinds = ", ".join(kind for kind, _ in files.modules())
        raise ConfigError(f"model {name}: its modules are {kinds}; expected a model of pairs alone; {EXPECTED}")


def _loaded(base: BaseModel, *, asks: bool) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """Return tokenizer and model, set up for padding on the right. Raises where they do not fit together."""
    tokenizer = load_base_tokenizer(base)
    if not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise ConfigError(
            f"model {base.path}: its tokenizer {kind} has no fast form; expected one with a tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"model {base.path}: its tokenizer has neither a padding nor an end token; expected one")
        tokenizer.pad_token = tokenizer.eos_token
    model = load_base_decoder(base).eval() if asks else _classifier(base)
    if len(tokenizer) > (rows := model.get_input_embeddings().num_embeddings):
        raise CheckpointError(f"model {base.path}: its tokenizer has {len(tokenizer)} tokens, its model {rows}")
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # decoders find a row's last token by it
    return tokenizer, model


def _classifier(base: BaseModel) -> PreTrainedModel:
    """Return the classifier in fp32 and evaluation mode."""
    with quiet_weights(), naming_faults(base, "model"):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            **base.source, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    if faults := sorted({*info["missing_keys"], *(str(each[0]) for each in info["mismatched_keys"])}):
        raise CheckpointError(f"model {base.path}: no weights for {', '.join(faults[:5])}; {EXPECTED}")
    return model.eval()
