import pytest
import torch
from torch import nn

from training.models.dropout import ByteDropout, use_byte_dropout


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_and_the_mean(share):
    torch.manual_seed(0)
    x = torch.ones(200_001, requires_grad=True)
    y = ByteDropout(share)(x)
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_masks_follow_torchs_seed():
    x, dropout = torch.ones(50, 30), ByteDropout(0.1)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    state = torch.get_rng_state()
    third = dropout(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), third)


def test_masks_are_the_same_in_every_precision():
    torch.manual_seed(1)
    wide = ByteDropout(0.1)(torch.ones(99))
    torch.manual_seed(1)
    assert torch.equal(ByteDropout(0.1)(torch.ones(99, dtype=torch.bfloat16)) == 0, wide == 0)


def test_nothing_is_dropped_in_evaluation_or_at_zero():
    x = torch.randn(100)
    assert torch.equal(ByteDropout(0.5).eval()(x), x)
    assert torch.equal(ByteDropout(0.0)(x), x)


def test_plain_dropouts_of_a_model_are_replaced():
    class Own(nn.Dropout):
        pass

    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.2)), Own(0.3))
    use_byte_dropout(model)
    assert [type(m) for m in model.modules() if isinstance(m, nn.Dropout)] == [ByteDropout, ByteDropout, Own]
