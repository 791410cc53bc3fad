"""Where PyTorch's own backward pass is wrong, a recording's is not."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording


class ToTokens(nn.Module):
    """Batch normalisation, then tokens: the gradient comes back with its channels innermost."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        self.weight = nn.Parameter(torch.randn(5, 16, 3))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return torch.stack([(tokens * one).sum((1, 2)) for one in self.weight], 1)


@pytest.mark.parametrize("gates", ["native", "frozen"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_behind_batch_normalisation_tokens_have_the_right_gradient(
    gates: Literal["native", "frozen"], count: int, order: torch.memory_format
) -> None:
    """By hand: the weight of the cell over the deviation.

    PyTorch 2.14 is off by several times the gradient on the CPU, for a single image alone.
    """
    torch.manual_seed(0)
    net = ToTokens().double().eval()
    x = torch.randn(count, 3, 4, 4, dtype=torch.float64).to(memory_format=order)
    with open_recording(VisionModel(net), x, Requirements("input", gates=gates)) as recording:
        seed = torch.zeros_like(recording.logits)
        seed[:, 2] = 1
        [found] = recording.gradients(seed, "input")
    assert net.norm.running_var is not None
    deviation = (net.norm.running_var + net.norm.eps).sqrt()[:, None, None]
    expected = net.weight[2].detach().t().reshape(3, 4, 4) / deviation
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-12, atol=1e-14)
