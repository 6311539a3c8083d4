"""Dropout whose random numbers cost little on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 256  # values of a random byte


class ByteDropout(nn.Dropout):
    """Dropout by one random byte an element; the probability is rounded to a multiple of 1/256.

    torch draws a CPU's masks on one thread, at several times the cost. A seed from torch's generator seeds numpy's
    SFC64, so torch's seed and state decide these masks too. Other devices draw as before.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped and the others scaled, in training; else x."""
        dropped = round(self.p * LEVELS)
        if not self.training or x.device.type != "cpu" or not 0 < dropped < LEVELS:
            return super().forward(x)
        words = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-x.numel() // 8))
        draws = torch.from_numpy(words.view(np.uint8)[: x.numel()]).view(x.shape)
        return x * (draws >= dropped).to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


def use_byte_dropout(model: nn.Module) -> None:
    """Make every plain dropout in a model a ByteDropout, in place."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = ByteDropout
