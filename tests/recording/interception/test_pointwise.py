"""A gate that is written out is the gate of the fused function, and other products are halved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cvx_core import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording

Function = Callable[[Tensor], Tensor]
ROOT = math.sqrt(2 / math.pi)


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def hardswish_in_place(x: Tensor) -> Tensor:
    return x.mul(x.add(3).clamp_(0, 6)).div_(6)


BY_HAND: dict[str, tuple[Function, Function]] = {
    "relu6": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6),
    "clamp": (F.hardswish, lambda x: (x + 3).clamp(0, 6) / 6 * x),
    "in place": (F.hardswish, hardswish_in_place),
    "gelu": (tanh_gelu, lambda x: 0.5 * x * (1 + torch.tanh(ROOT * (x + 0.044715 * x**3)))),
    "gelu, factored": (
        tanh_gelu,
        lambda x: 0.5 * x * (1 + torch.tanh(ROOT * x * (1 + 0.044715 * x * x))),
    ),
    "silu by tanh": (F.silu, lambda x: x * (0.5 * torch.tanh(x / 2) + 0.5)),
    "checkpointed": (
        F.hardswish,
        lambda x: checkpoint(lambda y: y * F.relu6(y + 3) / 6, x, use_reentrant=False),
    ),
}


def gradient(model: VisionModel, x: Tensor) -> Tensor:
    with open_recording(model, x, Requirements("input", gates="frozen", tape=True)) as recording:
        return recording.gradients(torch.ones_like(recording.logits), "input")[0]


@pytest.mark.parametrize("name", BY_HAND)
def test_a_gate_that_is_written_out_gives_the_fused_function_s_map(
    name: str, between: Callable[[Function], VisionModel], conserved: Callable[[Function], None]
) -> None:
    fused, by_hand = BY_HAND[name]
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Two formulas of one function, up to rounding in float64.
    torch.testing.assert_close(
        gradient(between(by_hand), x), gradient(between(fused), x), rtol=1e-9, atol=1e-12
    )
    conserved(by_hand)


OTHERS: dict[str, Function] = {
    "another tensor": lambda x: x * (x.roll(1, 1) + 3).clamp(0, 6),
    "partly another": lambda x: x * (x + x.roll(1, 1)).clamp(0, 6),
    "zero nowhere": lambda x: (x + 1) * F.relu6(x + 3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_products_are_halved_and_conserved(
    name: str, between: Callable[[Function], VisionModel], conserved: Callable[[Function], None]
) -> None:
    function = OTHERS[name]
    conserved(function)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def halved(y: Tensor) -> Tensor:
        a, b = {
            "another tensor": lambda: (y, (y.roll(1, 1) + 3).clamp(0, 6)),
            "partly another": lambda: (y, (y + y.roll(1, 1)).clamp(0, 6)),
            "zero nowhere": lambda: (y + 1, F.relu6(y + 3)),
        }[name]()
        return 0.5 * (a * b.detach() + a.detach() * b)

    plain: Any = between(halved)
    with open_recording(plain, x, Requirements("input")) as recording:
        expected = recording.gradients(torch.ones_like(recording.logits), "input")[0]
    torch.testing.assert_close(gradient(between(function), x), expected, rtol=1e-9, atol=1e-12)
