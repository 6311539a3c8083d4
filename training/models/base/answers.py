"""The two rows of a language model's head that belong to the answers of a prompt: the weights of a `yes_no` head."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from relevance.errors import ConfigError
from training.models.base.base_models import NEEDED, text_decoder

TOLERANCE = 1e-3  # largest difference of a logit, from the order of sums alone


@torch.inference_mode()
def answer_rows(model: PreTrainedModel, ids: tuple[int, int]) -> dict[str, Tensor]:
    """Return the weights of a `yes_no` head for the ids of yes and no: `answers.weight` [2, H], `answers.bias` [2].

    Checks on one row of tokens that the model's own logits are these rows times the last hidden state. Raises
    ConfigError where they are not: the head has further layers, or its logits are scaled.
    """
    head, chosen = model.get_output_embeddings(), list(ids)
    if head is None:
        raise ConfigError(f"base model of type {model.config.model_type!r}: it has no head over its tokens; {NEEDED}")
    weight = head.weight[chosen].float().clone()
    bias = torch.zeros(2) if getattr(head, "bias", None) is None else head.bias[chosen].float().clone()
    tokens = torch.tensor([[ids[0], ids[1], ids[0]]])
    expected = model.eval()(input_ids=tokens, use_cache=False).logits[0, -1, chosen]
    hidden = text_decoder(model)(input_ids=tokens, use_cache=False).last_hidden_state[0, -1]
    if hidden.shape[-1:] != weight.shape[-1:] or not torch.allclose(
        weight @ hidden.float() + bias, expected.float(), atol=TOLERANCE, rtol=TOLERANCE
    ):
        raise ConfigError(
            f"base model of type {model.config.model_type!r}: its logits are not one linear layer over the last hidden "
            f"state; {NEEDED}, as one linear layer"
        )
    return {"answers.weight": weight, "answers.bias": bias}
