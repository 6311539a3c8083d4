"""The training of an encoder on pairs of a text and its translation, and what its vectors are worth.

A translation's vector is drawn to that of its source text as the encoder gave it before (Reimers and Gurevych 2020,
arXiv 2004.09813), and away from those of the batch's other sources (van den Oord et al. 2018, arXiv 1807.03748). A part
of the source texts is held to its own vectors, so that the source language stays what it was.
"""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.alignment.options import COSINE_WEIGHT, KEPT_SHARE, AlignmentOptions
from training.alignment.pairs import Translated, batches
from training.fitting.loop.guard import Guard
from training.fitting.loop.optimizer import clip_gradients
from training.fitting.loop.precision import resolve_precision, training_device
from training.fitting.loop.schedule import rate_factor
from training.fitting.loop.snapshots import Snapshots
from training.progress import Meter, Pace
from training.threads import use_free_cores

log = logging.getLogger(__name__)

CENTRE_TEXTS, BATCH_TEXTS = 2048, 64
ADVICE = "lower learning_rate (a third), or raise warmup_share"


class Aligner:
    """Trains one encoder in place; `work` holds the snapshot from which an interrupted run resumes."""

    def __init__(
        self, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: AlignmentOptions, work: Path
    ) -> None:
        self._device = training_device()
        # Not fp16: small gradients would be lost without a scale.
        self._is_bf16 = resolve_precision("auto", self._device, encoder.config.model_type) == "bf16"
        self._tokenizer, self._options = tokenizer, options
        self._encoder = encoder.to(self._device)
        self._before = copy.deepcopy(self._encoder).eval().requires_grad_(False)
        self._encoder.get_input_embeddings().weight.requires_grad_(False)
        self._trained = [each for each in self._encoder.parameters() if each.requires_grad]
        self._centre = torch.zeros(0)
        self._snapshots = Snapshots(work, self._device, use_free_cores())

    def run(self, pairs: Sequence[Translated]) -> None:
        """Train the encoder on `pairs`. Raises DivergedError where its weights leave the finite numbers."""
        steps, guard = batches(pairs, self._options), Guard(ADVICE)
        some = self._vectors(self._before, [each.source for each in pairs[:CENTRE_TEXTS]])
        self._centre = torch.from_numpy(some.mean(axis=0)).to(self._device)
        matrices = [each for each in self._trained if each.dim() > 1]
        others = [each for each in self._trained if each.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)
        torch.manual_seed(self._options.seed)
        begun = self._restored(optimizer)
        size = self._options.batch_size
        with Meter("alignment", len(steps) * size, "pairs", begun * size, Pace("pairs")) as meter:
            for step in range(begun, len(steps)):
                factor = rate_factor(step, len(steps), self._options.warmup_share)
                for group in optimizer.param_groups:
                    group["lr"] = self._options.learning_rate * factor
                loss = self._loss([pairs[place] for place in steps[step]])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                guard.after_step(step + 1, loss.item(), clip_gradients(self._trained))
                optimizer.step()
                meter.advance(size, f"loss {loss.item():.3f}")
                if self._snapshots.due:
                    weights = dict(enumerate(each.detach() for each in self._trained))
                    self._snapshots.save({"step": step + 1, "weights": weights, "optimizer": optimizer.state_dict()})
        self._encoder.eval()

    def found_first(self, pairs: Sequence[Translated]) -> tuple[float, float]:
        """Return, before and after, the share of translations whose source is the nearest of all sources of `pairs`."""
        sources = list(dict.fromkeys(each.source for each in pairs))
        places = np.array([sources.index(each.source) for each in pairs])
        found = []
        for model in (self._before, self._encoder):
            held = self._vectors(model, sources)
            texts = self._vectors(model, [each.text for each in pairs])
            held, texts = (_units(each - held.mean(axis=0)) for each in (held, texts))
            found.append(float(((texts @ held.T).argmax(axis=1) == places).mean()))
        return found[0], found[1]

    def _loss(self, pairs: Sequence[Translated]) -> Tensor:
        sources = [each.source for each in pairs]
        kept = sources[: len(sources) // KEPT_SHARE]
        self._encoder.train()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_bf16):
            with torch.no_grad():
                goals = self._unit(self._before, sources)
            texts = self._unit(self._encoder, [each.text for each in pairs])
            held = self._unit(self._encoder, kept)
        same = torch.tensor([[a == b for b in sources] for a in sources], device=self._device)
        others = (texts @ goals.T / self._options.temperature).masked_fill(
            same & ~torch.eye(len(sources), dtype=torch.bool, device=self._device), float("-inf")
        )
        contrast = cross_entropy(others, torch.arange(len(sources), device=self._device))
        gaps = [(1 - (vectors * goals[: len(vectors)]).sum(1)).mean() for vectors in (texts, held)]
        return contrast + COSINE_WEIGHT * sum(gaps)

    def _unit(self, model: PreTrainedModel, texts: Sequence[str]) -> Tensor:
        return normalize(self._mean(model, texts) - self._centre, dim=1)

    def _mean(self, model: PreTrainedModel, texts: Sequence[str]) -> Tensor:
        """Return the mean [B, H] of the hidden states of each text's own tokens, without special ones, in fp32."""
        inputs = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._options.max_length,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(self._device)
        own = (1 - inputs.pop("special_tokens_mask")) * inputs["attention_mask"]
        inputs.pop("token_type_ids", None)  # zeros, as where they are left out; some encoders take none
        hidden = model(**inputs).last_hidden_state.float()
        return (hidden * own.unsqueeze(-1)).sum(1) / own.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def _vectors(self, model: PreTrainedModel, texts: Sequence[str]) -> NDArray[np.float32]:
        model.eval()
        found = []
        with Meter("embed", len(texts), "text") as meter:
            for start in range(0, len(texts), BATCH_TEXTS):
                found.append(self._mean(model, texts[start : start + BATCH_TEXTS]).cpu().numpy())
                meter.advance(len(found[-1]))
        return np.concatenate(found)

    def _restored(self, optimizer: torch.optim.Optimizer) -> int:
        """Take up the last snapshot, if there is one, and return the step to continue from."""
        state = self._snapshots.load()
        if state is None:
            return 0
        with torch.no_grad():
            for number, each in enumerate(self._trained):
                each.copy_(state["weights"][number])
        optimizer.load_state_dict(state["optimizer"])
        log.info("resuming after step %d", state["step"])
        return int(state["step"])


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12)
