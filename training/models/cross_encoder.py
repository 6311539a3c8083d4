"""The cross-encoder that is fine-tuned: any transformers model and a head of relevance.model.heads."""

import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)

from relevance.errors import CheckpointError, ConfigError
from relevance.model.card import HEAD_FILE, TOKENIZER_FILE, ModelCard
from relevance.model.heads import HeadKind, HeadSpec
from relevance.text.prompt import Prompt
from relevance.text.tokenization import PairTokenizer, TokenizedPair, batches
from training.models.base.base_models import pad_id_of
from training.models.base.quiet import quiet_bars, quiet_tokenizers, quiet_weights
from training.models.dropout import use_byte_dropout
from training.models.first_token import keep_first_token
from training.models.options import HeadOptions
from training.progress import Meter, Pace
from training.threads import use_free_cores

SCORED_TOKENS = 4096  # rows x longest row of a batch that is only scored
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class CrossEncoder(nn.Module):
    """Scores pairs: token ids -> encoder -> head -> one logit."""

    def __init__(self, encoder: nn.Module, spec: HeadSpec, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.spec = spec
        self.dropout = nn.Dropout(dropout)
        shapes = spec.shapes().items()
        self.head = nn.ParameterDict({_key(name): nn.Parameter(torch.zeros(shape)) for name, shape in shapes})
        use_byte_dropout(self)
        self._takes_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    @classmethod
    def from_base(
        cls, base: Path, tokenizer: PairTokenizer, head: HeadOptions, level_separator: str = ""
    ) -> "CrossEncoder":
        """Load a base model's folder and add a fresh head. Raises ConfigError where the head does not fit the model.

        A `yes_no` head is not fresh: `prepare_encoder` wrote its rows into the folder.
        `level_separator` stands between the levels of candidates, if they have levels.
        """
        spec = head_spec(tokenizer, head, AutoConfig.from_pretrained(base).hidden_size, level_separator)
        model = cls(_load_encoder(base, spec, tokenizer.pad_id, num_labels=1), spec, dropout_of(head))
        if spec.kind is HeadKind.YES_NO:
            model.load_head(load_file(base / HEAD_FILE))
        else:
            model.reset_head()
        return model

    @classmethod
    def from_checkpoint(cls, folder: Path) -> "CrossEncoder":
        """Load a fine-tuned checkpoint folder, in fp32 and evaluation mode."""
        card = ModelCard.load(folder)
        try:
            model = cls(_load_encoder(folder, card.head, card.pad_id), card.head)
            if card.head.kind is not HeadKind.STOCK:
                model.load_head(load_file(folder / HEAD_FILE))
        except (OSError, ValueError, SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"checkpoint {folder}: its weights cannot be loaded ({reason})") from None
        use_free_cores()
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def reset_head(self) -> None:
        """Draw new head weights from torch's global generator."""
        with torch.no_grad():
            for name, parameter in self.head.items():
                if name == "norm_scale":
                    parameter.fill_(1.0)
                elif name.endswith("weight") or parameter.dim() > 1:
                    parameter.normal_(0.0, 0.02 if parameter.dim() < 2 else self.spec.hidden_size**-0.5)
                else:
                    parameter.zero_()

    def load_head(self, weights: dict[str, Tensor]) -> None:
        """Set the head's parameters. Raises CheckpointError where a name or shape differs from the spec."""
        expected = self.spec.shapes()
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if found != expected:
            raise CheckpointError(f"{HEAD_FILE}: parameters {found}, expected {expected}")
        with torch.no_grad():
            for name, value in weights.items():
                self.head[_key(name)].copy_(value)

    def checkpoint_layers(self) -> None:
        """Compute activations again in the backward pass (Chen et al. 2016). ConfigError where the encoder cannot."""
        if not self.encoder.supports_gradient_checkpointing:
            family = self.encoder.config.model_type
            raise ConfigError(f"training.gradient_checkpointing: {family!r} does not support it; expected false")
        # Another name from transformers 5 on, where the old one warns.
        enable = getattr(self.encoder, "activation_checkpointing_enable", self.encoder.gradient_checkpointing_enable)
        enable({"use_reentrant": False})

    def freeze_word_embeddings(self) -> None:
        """Exclude the word embeddings from training."""
        self.encoder.get_input_embeddings().weight.requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, features: Tensor) -> Tensor:
        """Return logits [B] for int64 ids, mask and type ids, each [B, T], and features [B, F]."""
        types = {"token_type_ids": token_type_ids} if self._takes_types else {}
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        if self.spec.kind is HeadKind.STOCK:
            return self.spec.stock_logits(output.logits)
        hidden = self.dropout(output.last_hidden_state)
        weights = {name: self.head[_key(name)] for name in self.spec.shapes()}
        with torch.autocast(hidden.device.type, enabled=False):  # cosines lie close together: 16 bits would merge them
            return self.spec.logits(hidden.float(), input_ids, attention_mask, weights, features)

    def scalars(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, features: Tensor) -> Tensor:
        """Return what the linear term of the head reads, [B, n]: cosines (where it reads segments), then features."""
        if self.spec.kind is HeadKind.MEAN:
            return features
        return torch.cat(self.read(input_ids, attention_mask, token_type_ids, features)[1], dim=1)

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, features: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what a head of segments reads: their means, each [B, H], and the scalars of pairs, each [B, n]."""
        types = {"token_type_ids": token_type_ids} if self._takes_types else {}
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        means = self.spec.means(output.last_hidden_state.float(), input_ids, attention_mask)
        return means, self.spec.scalars(means, features)

    def save(self, folder: Path, base: Path) -> None:
        """Write weights, configuration and head into an existing folder, and copy the base model's tokenizer there."""
        with quiet_bars():
            self.encoder.save_pretrained(folder, safe_serialization=True)
        for name in TOKENIZER_FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, folder / name)
        if self.head:
            weights = {n: self.head[_key(n)].detach().float().cpu().contiguous() for n in self.spec.shapes()}
            save_file(weights, folder / HEAD_FILE)


def head_spec(tokenizer: PairTokenizer, head: HeadOptions, hidden_size: int, level_separator: str) -> HeadSpec:
    """Return the head of a new model. Raises ConfigError where it needs a separator and the tokenizer has none."""
    if head.kind is HeadKind.YES_NO:
        return HeadSpec(kind=head.kind, hidden_size=hidden_size)
    template = tokenizer.template
    if head.kind.reads_segments and (not template.middle or template.middle[0] in template.prefix):
        fault = "begins a pair with its separator" if template.middle else "puts no separator between the texts"
        raise ConfigError(
            f"head.kind '{head.kind}': the base model's tokenizer {fault}; expected head.kind 'stock' or 'mean'"
        )
    return HeadSpec(
        kind=head.kind,
        hidden_size=hidden_size,
        width=head.width,
        landmarks=head.landmarks,
        special_ids=tuple(sorted({*template.special_ids, tokenizer.pad_id})),
        separator_id=template.middle[0] if template.middle else -1,
        level_separator_id=_separator_id(tokenizer, level_separator) if level_separator else -1,
        overlap=bool(head.overlap),
        prior=bool(head.prior),
    )


def dropout_of(head: HeadOptions) -> float:
    """Return the dropout before a head; language models have none before theirs."""
    return 0.0 if head.kind is HeadKind.YES_NO else head.dropout


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """Return the arguments that leave out an encoder's pooler: no head here reads it, and few are trained."""
    takes = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


def load_tokenizer(folder: Path, max_length: int, prompt: Prompt | None = None) -> PairTokenizer:
    """Return the kernel's tokeniser of a model folder. Raises ConfigError where it has no padding or end token."""
    with quiet_tokenizers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return PairTokenizer.from_file(folder / TOKENIZER_FILE, max_length, pad_id_of(tokenizer, folder), prompt)


@torch.inference_mode()
def predict_logits(
    model: CrossEncoder, tokenizer: PairTokenizer, pairs: Sequence[TokenizedPair], batch_tokens: int = SCORED_TOKENS
) -> np.ndarray:
    """Return float32 logits [N] for tokenised pairs, scored longest first in batches of at most `batch_tokens`.

    Shows its progress where it takes long.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = np.zeros(len(pairs), dtype=np.float32)
    with Meter("scoring", len(pairs), "pairs", pace=Pace("pairs")) as meter:
        for rows in batches([len(pair) for pair in pairs], batch_tokens):
            logits[rows] = model(**tensors(tokenizer, [pairs[i] for i in rows], device)).float().cpu().numpy()
            meter.advance(len(rows))
    return logits


def tensors(
    tokenizer: PairTokenizer, pairs: Sequence[TokenizedPair], device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Return pairs as the inputs of a CrossEncoder: int64 ids, mask and type ids, each [B, T], and features [B, F]."""
    return {name: torch.from_numpy(array).to(device) for name, array in tokenizer.collate(pairs).items()}


def _separator_id(tokenizer: PairTokenizer, separator: str) -> int:
    """Return the id of the one token between two levels; -1 where it is not one token of its own."""
    before, both = tokenizer.encode_texts(["a", f"a{separator}a"])
    between = both[len(before) : len(both) - len(before)]
    return between[0] if len(between) == 1 and both[-len(before) :] == before else -1


def _key(name: str) -> str:
    return name.replace(".", "_")  # torch forbids dots in parameter names


def _load_encoder(path: Path, spec: HeadSpec, pad_id: int, **stock: int) -> nn.Module:
    """Return the encoder in fp32; `stock` are changes of the configuration of a stock head."""
    with quiet_weights():
        if spec.kind is HeadKind.STOCK:
            model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32, **stock)
            model.config.pad_token_id = pad_id  # decoders find a row's last token by it
            keep_first_token(model)
            return model
        poolerless = without_pooler(AutoConfig.from_pretrained(path))
        model = AutoModel.from_pretrained(path, dtype=torch.float32, **poolerless)
        if getattr(model.config, "use_cache", False):
            model.config.use_cache = False  # decoders: no keys and values kept for a next token
        return model
