"""Functions of one element, also in place, one by one: same value, then affine.

Each is put between a convolution and a fixed projection, in float64. Three things must hold: the
recorded answer is the network's own; <s, f(x)> = <g, x> + <s, f_frozen(0)>; and the same between
x and an unrelated image, which no constant can mend.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording

Function = Callable[[Tensor], Tensor]

ELEMENTWISE: dict[str, Function] = {
    "relu": F.relu,
    "torch.relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=x.dtype)),
    "rrelu": F.rrelu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "threshold": lambda x: F.threshold(x, 0.2, -1.0),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clip": lambda x: torch.clip(x, min=-0.5),
    "clamp_min": lambda x: x.clamp_min(0.3),
    "clamp_max": lambda x: x.clamp_max(0.3),
    "abs": torch.abs,
    "abs()": abs,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "tanh": torch.tanh,
    "F.tanh": F.tanh,
    "elu": F.elu,
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "logsigmoid": F.logsigmoid,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "erf": lambda x: x * torch.erf(x),
    "expm1": torch.expm1,
    "sin": torch.sin,
    "square": torch.square,
    "sqrt": lambda x: x.abs().sqrt(),
    "log1p": lambda x: x.abs().log1p(),
    "x ** 2": lambda x: x**2,
    "x ** 3.0": lambda x: x**3.0,
    "x ** 0.5": lambda x: x.abs() ** 0.5,
    "x ** -1": lambda x: x + (x.abs() + 1) ** -1,
    "x ** tensor": lambda x: x.abs() ** torch.tensor(1.7, dtype=x.dtype),
    "2 ** x": lambda x: x + 2**x,
    "sigmoid": lambda x: x + torch.sigmoid(x),
    "hardsigmoid": lambda x: x + F.hardsigmoid(x),
    "softplus": lambda x: x + F.softplus(x),
    "exp": lambda x: x + torch.exp(x),
    "log": lambda x: x + (x.abs() + 1).log(),
    "rsqrt": lambda x: x + (x.abs() + 1).rsqrt(),
    "1 / x": lambda x: x + 1 / (x.abs() + 1),
    "cos": lambda x: x + torch.cos(x),
    "round": lambda x: x + x.round(),
    "sinh": torch.sinh,
    "tan": lambda x: torch.tan(x / 9),
    "arctan and arcsinh": lambda x: torch.arctan(x) + torch.arcsinh(x),
    "exp2": lambda x: x + x.exp2(),
    "logarithms": lambda x: x + (x.abs() + 1).log2() + (x.abs() + 1).log10(),
    "erfc": lambda x: x * torch.erfc(x),
    "floor and ceil": lambda x: x + x.floor() - torch.ceil(x + 0.5) + torch.sgn(x),
    "sign": lambda x: x + x.sign(),
}
IN_PLACE: dict[str, Function] = {
    "relu_": lambda x: F.relu(x, inplace=True),
    "torch.relu_": torch.relu_,
    "leaky_relu_": lambda x: F.leaky_relu(x, 0.2, inplace=True),
    "rrelu_": lambda x: F.rrelu(x, inplace=True),
    "relu6_": lambda x: F.relu6(x, inplace=True),
    "hardtanh_": lambda x: F.hardtanh(x, inplace=True),
    "threshold_": lambda x: F.threshold(x, 0.2, -1.0, inplace=True),
    "clamp_": lambda x: x.clamp_(-0.5, 0.7),
    "abs_": lambda x: x.abs_(),
    "silu_": lambda x: F.silu(x, inplace=True),
    "hardswish_": lambda x: F.hardswish(x, inplace=True),
    "mish_": lambda x: F.mish(x, inplace=True),
    "tanh_": lambda x: x.tanh_(),
    "elu_": lambda x: F.elu(x, inplace=True),
    "selu_": lambda x: F.selu(x, inplace=True),
    "celu_": lambda x: F.celu(x, inplace=True),
    "sqrt_": lambda x: x.abs_().sqrt_(),
    "square_": lambda x: x.square_(),
    "pow_": lambda x: x.pow_(3),
    "x **= 2": lambda x: x.__ipow__(2),
    "sigmoid_": lambda x: x * x.clone().sigmoid_(),
    "hardsigmoid_": lambda x: x * F.hardsigmoid(x.clone(), inplace=True),
    "exp_": lambda x: x * x.clone().exp_(),
    "mul_": lambda x: x.mul_(F.gelu(x)),
    "x *= y": lambda x: x.__imul__(x.mean((2, 3), keepdim=True)),
    "div_": lambda x: x.div_(x.norm(dim=1, keepdim=True)),
    "add_": lambda x: x.add_(F.relu(x)),
    "of the half": lambda x: torch.cat([x[:, :2].relu_(), x[:, 2:].sigmoid_()], 1),
    "of a view": lambda x: (F.silu(x[:, :2].mul_(2), inplace=True), x)[1],
    "of a constant": lambda x: x * torch.sigmoid(x).mul_(2).add_(1),
    "of a quotient's divisor": lambda x: x / x.norm(dim=1, keepdim=True).clamp_min_(1e-3),
}
FUNCTIONS = {**ELEMENTWISE, **IN_PLACE}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_keeps_its_value_and_is_conserved(
    name: str, conserved: Callable[[Function], None]
) -> None:
    conserved(FUNCTIONS[name])


AT_ZERO: dict[str, tuple[Function, float]] = {
    "gelu, Phi(0)": (F.gelu, 0.5),
    "silu, sigmoid(0)": (F.silu, 0.5),
    "hardswish, 3 / 6": (F.hardswish, 0.5),
    "mish, tanh(log 2) = (4 - 1) / (4 + 1)": (F.mish, 0.6),
    "tanh": (torch.tanh, 1.0),
    "sin": (torch.sin, 1.0),
    "softsign": (F.softsign, 1.0),
    "tanhshrink, x - tanh x": (F.tanhshrink, 0.0),
    "elu": (F.elu, 1.0),
    "selu, from the left its scale times its alpha": (
        F.selu,
        1.0507009873554805 * 1.6732632423543772,
    ),
    "celu": (lambda x: F.celu(x, 0.7), 1.0),
    "square": (torch.square, 0.0),
    "x ** 2": (lambda x: x**2, 0.0),
    "x ** 1": (lambda x: x**1, 1.0),
    "sqrt, which has none": (torch.sqrt, 0.0),
    "x ** 0.5": (lambda x: x**0.5, 0.0),
}
"""What f(x) / x goes to as x goes to 0."""


@pytest.mark.parametrize("name", AT_ZERO)
def test_a_gate_at_exactly_zero_is_its_limit(name: str) -> None:
    function, slope = AT_ZERO[name]
    net = nn.Sequential(nn.Flatten(), Applied(function))
    x = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    with open_recording(VisionModel(net), x, Requirements("input", gates="frozen")) as recording:
        [gradient] = recording.gradients(torch.tensor([[1.0, 1.0]]), "input")
    # PyTorch divides by celu's alpha in single precision
    assert gradient.flatten().tolist() == pytest.approx([slope] * 2, rel=1e-7)


class Applied(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_half_of_a_product_goes_to_each_factor() -> None:
    """d(a b) with both active: b / 2 and a / 2, so that together they carry a b once."""
    halves = VisionModel(Split(), name="split")
    x = torch.tensor([[[[3.0, 5.0]]]], dtype=torch.float64)
    with open_recording(halves, x, Requirements("input", gates="frozen")) as recording:
        [gradient] = recording.gradients(torch.tensor([[1.0, 0.0]]), "input")
    assert gradient.flatten().tolist() == [2.5, 1.5]


class Split(nn.Module):
    """Logits (a * b, a) of an input with two pixels a and b."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.flatten(1).unbind(1)
        return torch.stack([a * b, a], 1)


def test_a_gelu_s_frozen_slope_is_its_value_over_its_argument() -> None:
    """gelu(1) = Phi(1) = (1 + erf(1 / sqrt 2)) / 2 = 0.8413447, while its derivative is 1.0833."""
    expected = (1 + math.erf(math.sqrt(0.5))) / 2

    class Gelu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.gelu(x.flatten(1))

    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    with open_recording(VisionModel(Gelu()), x, Requirements("input", gates="frozen")) as recording:
        [gradient] = recording.gradients(torch.tensor([[1.0, 0.0]]), "input")
    assert gradient.flatten().tolist() == pytest.approx([expected, 0])
