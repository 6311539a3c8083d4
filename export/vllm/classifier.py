"""A checkpoint's model as the `...ForSequenceClassification` of its architecture with one output, and back from disk.

The output is the checkpoint's logit. vLLM keeps no bias on a decoder's head, so that of a `yes_no` head is returned
beside the model: it belongs into the calibration.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from export.checkpoint import BATCH_TOKENS, Checkpoint
from relevance.errors import BundleError, CheckpointError
from relevance.model.bundle import Manifest, Precision
from relevance.model.heads import HeadKind, HeadSpec
from relevance.model.inputs import PairInputs
from relevance.tasks import Pair
from relevance.text.tokenization import batches

INPUT_NAMES = ("input_ids", "attention_mask")  # a request by token ids has no token types
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
INSTEAD = "expected an ONNX bundle of it (--kind onnx)"


def as_classifier(source: Checkpoint) -> tuple[PreTrainedModel, float]:
    """Return the classifier, which takes the weights of `source`, and what its logit lacks of the checkpoint's.

    Raises CheckpointError where the head is not one linear output, or the model reads token types.
    """
    spec, name = source.card.head, f"checkpoint {source.folder}"
    if spec.kind not in (HeadKind.STOCK, HeadKind.YES_NO):
        raise CheckpointError(
            f"{name}: its head is {spec.kind.value!r}, which no classifier of transformers or vLLM has; expected "
            f"head.kind 'stock', or 'yes_no' of a language model; {INSTEAD}"
        )
    if "token_type_ids" in source.scorer.input_names:
        raise CheckpointError(
            f"{name}: its tokenizer gives the candidate another token type, which a request to vLLM by token ids does "
            f"not have; {INSTEAD}"
        )
    if spec.kind is HeadKind.YES_NO:
        return _of_answers(source)
    model = source.scorer.encoder
    _keep_one_output(model, spec, name)
    return model, 0.0


def folder_logits(
    folder: Path, manifest: Manifest, inputs: PairInputs
) -> Callable[[Sequence[Pair]], NDArray[np.float32]]:
    """Return the function from pairs to logits [N] by transformers, in the precision of the folder, on the CPU."""
    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=DTYPES[manifest.precision])
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise BundleError(f"bundle {folder}: transformers cannot load it ({reason})") from None
    model.eval()

    @torch.inference_mode()
    def logits(pairs: Sequence[Pair]) -> NDArray[np.float32]:
        tokens = inputs.encode(pairs)
        found = np.zeros(len(tokens), dtype=np.float32)
        for places in batches([len(pair) for pair in tokens], BATCH_TOKENS):
            arrays = inputs.tokenizer.collate([tokens[place] for place in places])
            output = model(**{name: torch.from_numpy(arrays[name]) for name in INPUT_NAMES}).logits
            if output.shape[1] != 1:
                raise BundleError(f"bundle {folder}: {output.shape[1]} outputs; expected one")
            found[places] = output[:, 0].float().numpy()
        return found

    return logits


def _of_answers(source: Checkpoint) -> tuple[PreTrainedModel, float]:
    """Return a decoder with the difference of both answers' rows as its classifier, and that of their biases."""
    decoder, head = source.scorer.encoder, source.scorer.head_weights()
    config = decoder.config
    kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if kind is None:
        raise CheckpointError(
            f"checkpoint {source.folder}: transformers has no classifier of the architecture {config.model_type!r}; "
            f"{INSTEAD}"
        )
    config.num_labels = 1
    config.pad_token_id = source.card.pad_id  # the last token of a row is found by it
    with torch.device("meta"):  # its own decoder is replaced at once
        model = kind(config)
    setattr(model, model.base_model_prefix, decoder)
    yes, no = head["answers.weight"]
    model.score = nn.Linear(len(yes), 1, bias=False)
    model.score.weight = nn.Parameter((yes - no)[None], requires_grad=False)
    return model.eval(), float(head["answers.bias"][0] - head["answers.bias"][1])


def _keep_one_output(model: PreTrainedModel, spec: HeadSpec, name: str) -> None:
    """Cut the last layer of a classifier to the one output that is the logit. CheckpointError where none is."""
    outputs = model.config.num_labels
    if outputs == 1:
        return
    if outputs > 2 and spec.softmax:
        raise CheckpointError(
            f"{name}: its score is the softmax share of one of {outputs} labels, which is no single linear output; "
            f"{INSTEAD}"
        )
    place, layer = [
        (place, layer)
        for place, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features == outputs
        and not place.startswith(f"{model.base_model_prefix}.")
    ][-1]
    others = 1 - spec.label if spec.softmax else None
    with torch.no_grad():
        parts = [
            value[spec.label] if others is None else value[spec.label] - value[others]
            for value in (layer.weight, layer.bias)
            if value is not None
        ]
    cut = nn.Linear(layer.in_features, 1, bias=len(parts) > 1)
    cut.weight = nn.Parameter(parts[0][None].clone(), requires_grad=False)
    if len(parts) > 1:
        cut.bias = nn.Parameter(parts[1][None].clone(), requires_grad=False)
    model.set_submodule(place, cut)
    model.config.num_labels = model.num_labels = 1
