"""Recurrent layers, whose gates are held step by step, and masks computed from the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording

Residual = Callable[..., float]
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(6, 5, batch_first=True),
    "lstm, two layers, both ways": lambda: nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True),
    "lstm, projected": lambda: nn.LSTM(6, 5, proj_size=4, batch_first=True, bidirectional=True),
    "lstm without biases": lambda: nn.LSTM(6, 5, bias=False, batch_first=True),
    "gru, both ways": lambda: nn.GRU(6, 5, 2, batch_first=True, bidirectional=True),
    "gru over time first": lambda: nn.GRU(6, 5),
    "tanh": lambda: nn.RNN(6, 5, batch_first=True),
    "relu": lambda: nn.RNN(6, 5, 2, nonlinearity="relu", batch_first=True),
}


class Sequencer(nn.Module):
    """Cells of an image read as a sequence; the answer reads all outputs and the last state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.patches, self.layer = nn.Conv2d(3, 6, 4, 4), layer
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.patches(x).flatten(2).transpose(1, 2)
        if not self.layer.batch_first:
            steps, last = self.layer(cells.transpose(0, 1))
            steps = steps.transpose(0, 1)
        else:
            steps, last = self.layer(cells)
        state = last[0] if isinstance(last, tuple) else last
        return self.head(torch.cat([steps.mean(1), state.transpose(0, 1).flatten(1)], 1))


class RelativePositions(nn.Module):
    """Attention whose mask is made of the queries, as Segment Anything's."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.qkv = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 18)
        self.positions = nn.Parameter(torch.randn(9, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.patches(x).flatten(2).transpose(1, 2)).chunk(3, -1)
        mask = q @ self.positions.T
        return self.head(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).mean(1))


def seeded(build: Callable[[], nn.Module], x: Tensor) -> VisionModel:
    torch.manual_seed(0)
    net = build().double()
    net(x)  # gives the lazy head its size
    return VisionModel(net.eval())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_is_conserved(name: str, x: Tensor, residual: Residual) -> None:
    model = seeded(lambda: Sequencer(LAYERS[name]()), x)
    plain = model.logits(x)
    with open_recording(model, x, Requirements("input", gates="frozen")) as recording:
        torch.testing.assert_close(recording.logits.detach(), plain, rtol=1e-12, atol=1e-12)
    assert residual(model, x, "input") < 1e-13


def test_a_recurrent_layer_keeps_its_own_gradient(x: Tensor) -> None:
    model = seeded(lambda: Sequencer(LAYERS["lstm"]()), x)
    leaf = x.clone().requires_grad_()
    [expected] = torch.autograd.grad(model.module(leaf)[:, 0].sum(), leaf)
    with open_recording(model, x, Requirements("input")) as recording:
        seed = torch.tensor([[1.0, 0, 0]] * 2).double()
        torch.testing.assert_close(recording.gradient(seed, "input"), expected)


def test_a_gate_by_hand() -> None:
    """One GRU step with all weights 1 and no biases, from a state of zero.

    r = z = sigmoid(x), n = tanh(x), h = (1 - z) n: with the gates held dh/dx is (1 - z) n / x.
    """

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 1, bias=False, batch_first=True)
            nn.init.ones_(self.gru.weight_ih_l0)
            nn.init.ones_(self.gru.weight_hh_l0)

        def forward(self, x: Tensor) -> Tensor:
            h = self.gru(x.mean(1).flatten(1)[:, :1, None])[0][:, 0]
            return torch.cat([h, -h], 1)

    x = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    with open_recording(
        VisionModel(One().double()), x, Requirements("input", gates="frozen")
    ) as recording:
        seed = torch.tensor([[1.0, 0.0]]).double()
        found = float(recording.gradient(seed, "input"))
    value = torch.tensor(0.7, dtype=torch.float64)
    assert found == pytest.approx(float((1 - value.sigmoid()) * value.tanh() / value))


def test_a_mask_made_of_the_image_is_held_with_the_probabilities(
    x: Tensor, residual: Callable[..., Any]
) -> None:
    assert residual(seeded(RelativePositions, x), x, "input") < 1e-14
