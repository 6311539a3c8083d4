"""A checkpoint folder as one torch module from token ids to logits: the source of the export and its reference.

Reads what `training` wrote without importing it: the folder holds a transformers model, the head's weights, and a card
that says how they belong together.
"""

import inspect
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoModelForSequenceClassification

from relevance.errors import CheckpointError, ConfigError
from relevance.model.bundle import Golden
from relevance.model.card import DEV_PAIRS_FILE, HEAD_FILE, TOKENIZER_FILE, ModelCard
from relevance.model.heads import HeadKind
from relevance.model.inputs import PairInputs
from relevance.model.reports import EXPECTED, MAX_REPORT_BYTES, REPORTS_FOLDER, is_report, report_files
from relevance.text.tokenization import PairTokenizer, TokenizedPair, batches

BATCH_TOKENS = 2048  # rows x padded length of one run


class Scorer(nn.Module):
    """Encoder and head in one module with a `config`, as optimum's exporter wants it; returns `{"logits": [B]}`."""

    def __init__(
        self, encoder: nn.Module, card: ModelCard, head: dict[str, Tensor], input_names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.spec = card.head
        self.input_names = input_names
        self._names = list(head)
        for place, value in enumerate(head.values()):
            self.register_buffer(f"head_{place}", value)

    def head_weights(self) -> dict[str, Tensor]:
        """Return the parameters of the head by name."""
        return {name: getattr(self, f"head_{place}") for place, name in enumerate(self._names)}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        features: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return logits [B] for int64 ids, mask and, where read, type ids, each [B, T], and features [B, F]."""
        types = {"token_type_ids": token_type_ids} if "token_type_ids" in self.input_names else {}
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        if self.spec.kind is HeadKind.STOCK:
            return {"logits": self.spec.stock_logits(output.logits)}
        weights = self.head_weights()
        return {"logits": self.spec.logits(output.last_hidden_state, input_ids, attention_mask, weights, features)}


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its card, its module in fp32, and how it reads pairs."""

    folder: Path
    card: ModelCard
    scorer: Scorer
    inputs: PairInputs

    @property
    def tokenizer(self) -> PairTokenizer:
        """The tokeniser, set up as the model was trained."""
        return self.inputs.tokenizer

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Load a checkpoint folder. Raises CheckpointError naming the file that is missing or does not fit."""
        card = ModelCard.load(folder)
        for name in (TOKENIZER_FILE, "config.json", *([] if card.head.kind is HeadKind.STOCK else [HEAD_FILE])):
            if not (folder / name).is_file():
                raise CheckpointError(f"checkpoint {folder}: {name} is missing; expected what `relevance train` wrote")
        inputs = PairInputs.from_checkpoint(folder, card)
        try:
            encoder = _load_encoder(folder, card)
            head = {} if card.head.kind is HeadKind.STOCK else load_file(folder / HEAD_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"checkpoint {folder}: its weights cannot be loaded ({reason})") from None
        found = {name: tuple(value.shape) for name, value in head.items()}
        if found != card.head.shapes():
            raise CheckpointError(f"{folder / HEAD_FILE}: parameters {found}, expected {card.head.shapes()}")
        names = ("input_ids", "attention_mask")
        # Where the pair template has only token type 0, the model's default, zeros, gives the same result.
        if any(inputs.tokenizer.template.types) and "token_type_ids" in inspect.signature(encoder.forward).parameters:
            names += ("token_type_ids",)
        names += ("features",) if card.head.features else ()
        return cls(folder, card, Scorer(encoder, card, head, names).eval(), inputs)

    def without_prior(self) -> "Checkpoint":
        """Return the checkpoint as a model that reads no category prior. Raises ConfigError where it reads none."""
        card = self.card
        if not card.head.prior:
            raise ConfigError(f"--without-prior: the model of {self.folder} reads no category prior")
        head, weights = card.head.without_prior(self.scorer.head_weights())
        card = card.model_copy(update={"head": head, "category_prior": None})
        names = tuple(name for name in self.scorer.input_names if name != "features" or head.features)
        scorer = Scorer(self.scorer.encoder, card, weights, names).eval()
        return replace(self, card=card, scorer=scorer, inputs=replace(self.inputs, prior=None))

    def dev_pairs(self) -> list[Golden]:
        """Return the pairs to check against, their logits still 0. Raises CheckpointError where there are none."""
        missing = f"checkpoint {self.folder}: {DEV_PAIRS_FILE}"
        path = self.folder / DEV_PAIRS_FILE
        if not path.is_file():
            raise CheckpointError(f"{missing} is missing; expected pairs to check against")
        try:
            lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
            pairs = [Golden(**json.loads(line), logit=0.0) for line in lines]
        except ValueError as error:  # no JSON, no UTF-8, or not the fields of a pair
            raise CheckpointError(f"{missing} is damaged ({error})") from None
        if not pairs:
            raise CheckpointError(f"{missing} is empty; expected pairs to check against")
        return pairs

    def copy_reports(self, folder: Path) -> None:
        """Copy the reports to a bundle. Raises CheckpointError for a name that no report has, or one too large."""
        for file in report_files(self.folder):
            source = self.folder / file
            if not is_report(file):
                raise CheckpointError(
                    f"checkpoint {self.folder}: report {source.name!r}: expected a name of {EXPECTED}"
                )
            if (size := source.stat().st_size) > MAX_REPORT_BYTES:
                raise CheckpointError(
                    f"checkpoint {self.folder}: {file} has {size} bytes, expected {MAX_REPORT_BYTES} at most"
                )
            (folder / REPORTS_FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(source, folder / file)

    @torch.inference_mode()
    def logits(self, pairs: Sequence[TokenizedPair]) -> NDArray[np.float32]:
        """Return the checkpoint's own logits [N], in the order of the pairs."""
        found = np.zeros(len(pairs), dtype=np.float32)
        for places in batches([len(pair) for pair in pairs], BATCH_TOKENS):
            arrays = self.tokenizer.collate([pairs[place] for place in places])
            inputs = {name: torch.from_numpy(arrays[name]) for name in self.scorer.input_names}
            found[places] = self.scorer(**inputs)["logits"].numpy()
        return found


def _load_encoder(folder: Path, card: ModelCard) -> nn.Module:
    config = AutoConfig.from_pretrained(folder)
    config.use_cache = False  # decoders: no past key values in the graph
    if card.head.kind is not HeadKind.STOCK:
        takes = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
        poolerless = {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}
        return AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, **poolerless)
    config.pad_token_id = card.pad_id
    return AutoModelForSequenceClassification.from_pretrained(folder, config=config, dtype=torch.float32)
