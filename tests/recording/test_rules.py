"""Every function that is intercepted, one by one: same value, and affine once its gates are held.

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

from cvx_core.recording import Needs, Recording
from cvx_core.vision_model import VisionModel

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
    "sigmoid_": lambda x: x.sigmoid_(),
    "hardsigmoid_": lambda x: F.hardsigmoid(x, inplace=True),
    "exp_": lambda x: x.exp_(),
    "mul_": lambda x: x.mul_(F.gelu(x)),
    "x *= y": lambda x: x.__imul__(x.mean((2, 3), keepdim=True)),
    "div_": lambda x: x.div_(x.norm(dim=1, keepdim=True)),
    "add_": lambda x: x.add_(F.relu(x)),
    "of the half": lambda x: torch.cat([x[:, :2].relu_(), x[:, 2:].sigmoid_()], 1),
    "of a view": lambda x: (F.silu(x[:, :2].mul_(2), inplace=True), x)[1],
    "of a constant": lambda x: x * torch.sigmoid(x).mul_(2).add_(1),
    "of a quotient's divisor": lambda x: x / x.norm(dim=1, keepdim=True).clamp_min_(1e-3),
}
SCALES: dict[str, Function] = {
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "layer_norm, weighted": lambda x: F.layer_norm(x, (6,), ramp(x, 6), ramp(x, 6)),
    "group_norm": lambda x: F.group_norm(x, 2),
    "group_norm, weighted": lambda x: F.group_norm(x, 2, ramp(x, 4), ramp(x, 4)),
    "instance_norm": F.instance_norm,
    "instance_norm, weighted": lambda x: F.instance_norm(x, weight=ramp(x, 4), bias=ramp(x, 4)),
    "instance_norm, running": lambda x: F.instance_norm(
        x, ramp(x, 4), ramp(x, 4), use_input_stats=False
    ),
    "batch_norm": lambda x: F.batch_norm(x, ramp(x, 4), ramp(x, 4)),
    "batch_norm, of the batch": lambda x: alone(
        x, lambda one: F.batch_norm(one, None, None, ramp(x, 4), training=True)
    ),
    "rms_norm": lambda x: F.rms_norm(x, (6,)),
    "rms_norm, weighted": lambda x: F.rms_norm(x, (6,), ramp(x, 6), 1e-3),
    "rms by hand": lambda x: x * (x.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt(),
    "normalize": lambda x: F.normalize(x, dim=1),
    "normalize, p = 1": lambda x: F.normalize(x, p=1.0, dim=1),
    "linalg.norm": lambda x: x / torch.linalg.norm(x, dim=1, keepdim=True),
    "vector_norm": lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "torch.norm": lambda x: x / torch.norm(x, dim=1, keepdim=True),
    "std": lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
    "var_mean": lambda x: standardised(*torch.var_mean(x, dim=1, keepdim=True), x),
    "var_mean, of all": lambda x: alone(
        x, lambda one: standardised(*torch.var_mean(one, False), one)
    ),
    "std_mean": lambda x: standardised(*torch.std_mean(x, (1, 2), keepdim=True), x),
    "global response norm": lambda x: x * (x.norm(dim=(2, 3), keepdim=True) / 7),
    "local response norm": lambda x: F.local_response_norm(x, 3),
    "lp_pool2d": lambda x: F.lp_pool2d(x, 2.0, 2),
    "cosine_similarity": lambda x: F.cosine_similarity(x, ramp(x, 4)[:, None, None], dim=1),
}
CHOICES: dict[str, Function] = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1),
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 2),
    "max_pool2d, dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 2, ceil_mode=True),
    "max_pool2d with indices": lambda x: F.max_unpool2d(
        *F.max_pool2d(x, 2, return_indices=True), 2
    ),
    "max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 3),
    "max_pool3d": lambda x: F.max_pool3d(x[:, None], 2),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 4),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 5),
    "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d(3),
    "MaxPool2d": nn.MaxPool2d(3, 2, 1),
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin(dim=1, keepdim=True),
    "max of all": lambda x: alone(x, lambda one: one - one.max()),
    "max along": lambda x: x.max(1)[0],
    "max along, kept": lambda x: torch.max(x, dim=-1, keepdim=True).values,
    "min along": lambda x: x.min(dim=2).values,
    "max of two": lambda x: torch.max(x, 0.3 - x),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "minimum": lambda x: torch.minimum(x, torch.tensor(0.2, dtype=x.dtype)),
    "maxout": lambda x: x.view(len(x), 2, 2, 6, 6).max(2).values,
    "sort": lambda x: torch.sort(x, dim=1, descending=True).values,
    "sort, stable": lambda x: x.sort(dim=1, stable=True)[0],
    "topk": lambda x: x.flatten(1).topk(7).values,
    "topk, along": lambda x: torch.topk(x, 2, 1)[0],
    "topk and gather": lambda x: x.gather(1, x.topk(2, dim=1).indices),
    "kthvalue": lambda x: x.kthvalue(3).values,
    "kthvalue, along": lambda x: torch.kthvalue(x, 2, 1, True)[0],
    "median": lambda x: x.median(2).values,
    "median of all": lambda x: alone(x, lambda one: one - one.median()),
    "cummax": lambda x: x.cummax(1).values,
    "argmax": lambda x: x.gather(1, x.argmax(1, keepdim=True)),
    "where": lambda x: torch.where(x > 0.1, x, 0.2 * x),
    "masked_fill": lambda x: x.masked_fill(x.ge(0.4), 2.0),
    "mask times": lambda x: x * (x > 0),
    "clamped by a tensor": lambda x: x.clamp(min=x.mean(1, keepdim=True)),
}
PRODUCTS: dict[str, Function] = {
    "x * x": lambda x: x * x,
    "mul": lambda x: torch.mul(x, x.flip(1)),
    "mul, broadcast": lambda x: x * x.mean((2, 3), keepdim=True),
    "squeeze and excitation": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "glu": lambda x: F.glu(x, 1),
    "glu by hand": lambda x: x[:, :2] * torch.sigmoid(x[:, 2:]),
    "swiglu": lambda x: F.silu(x[:, :2]) * x[:, 2:],
    "matmul": lambda x: x @ x.transpose(-2, -1),
    "bmm": lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x.sin()),
    "einsum, one list": lambda x: torch.einsum("bc,bd->bcd", [x.mean((2, 3)), x.amax((2, 3))]),
    "einsum with a weight": lambda x: torch.einsum("bchw,c->bhw", x, ramp(x, 4)),
    "outer": lambda x: torch.outer(x.flatten(), ramp(x, 3)).view(len(x), -1),
    "linear with a computed weight": lambda x: alone(
        x, lambda one: F.linear(one, one.mean((0, 1)))
    ),
    "convolution with a computed kernel": lambda x: alone(
        x, lambda one: F.conv2d(one, one[:, :, :3, :3], ramp(x, 1), padding=1)
    ),
    "div": lambda x: x / (x.abs().sum(1, keepdim=True) + 1),
    "div by a number": lambda x: x / 3,
    "number / x": lambda x: x + torch.div(torch.tensor(2.0, dtype=x.dtype), x.abs() + 1),
}
ATTENTION: dict[str, Function] = {
    "softmax by hand": lambda x: attend(x, lambda q, k, v: (q @ k.mT).softmax(-1) @ v),
    "F.softmax": lambda x: attend(x, lambda q, k, v: F.softmax(q @ k.mT, dim=-1) @ v),
    "softmax, in place after": lambda x: attend(
        x, lambda q, k, v: torch.softmax(q @ k.mT, -1).mul_(0.5) @ v
    ),
    "by keyword": lambda x: attend(x, lambda q, k, v: torch.softmax(input=q @ k.mT, dim=-1) @ v),
    "sdpa": lambda x: attend(x, F.scaled_dot_product_attention),
    "sdpa by keyword": lambda x: attend(
        x, lambda q, k, v: F.scaled_dot_product_attention(query=q, key=k, value=v)
    ),
    "sdpa, causal": lambda x: attend(
        x, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    ),
    "sdpa, masked": lambda x: attend(
        x,
        lambda q, k, v: F.scaled_dot_product_attention(
            q, k, v, torch.eye(12, dtype=torch.bool), scale=0.3
        ),
    ),
    "linear attention": lambda x: attend(x, lambda q, k, v: q.softmax(-1) @ (k.softmax(-2).mT @ v)),
    "log_softmax": lambda x: F.log_softmax(x, dim=1),
    "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
}
FUNCTIONS = {**ELEMENTWISE, **IN_PLACE, **SCALES, **CHOICES, **PRODUCTS, **ATTENTION}


def alone(x: Tensor, function: Function) -> Tensor:
    """For what mixes the images of a batch, whose sums are then conserved only together."""
    return torch.cat([function(one) for one in x.split(1)])


def ramp(like: Tensor, count: int) -> Tensor:
    return torch.linspace(0.5, 2, count, dtype=like.dtype)


def standardised(spread: Tensor, mean: Tensor, x: Tensor) -> Tensor:
    return (x - mean) / (spread + 0.1)


def attend(x: Tensor, how: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    query, key, value = x.reshape(len(x), 12, 3, 4).permute(2, 0, 1, 3)
    return how(query, key, value)


class Between(nn.Module):
    """A function between a convolution and a projection of whatever it returns."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.function(self.first(x)).flatten(1)
        generator = torch.Generator().manual_seed(5)
        weights = torch.randn(features.shape[1], 3, generator=generator, dtype=x.dtype)
        return features @ weights + 0.3


def between(function: Function) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return VisionModel(Between(function).double().eval())


def images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_keeps_its_value_and_is_conserved(
    name: str, residual: Callable[..., float]
) -> None:
    model, x = between(FUNCTIONS[name]), images()
    with torch.no_grad():
        plain = model.module(x)
    for needs in (Needs("input"), Needs("input", gates="frozen", tape=True)):
        with Recording(model, x, needs) as recording:
            # A replaced formula may round differently: a few units in the last place.
            torch.testing.assert_close(recording.logits.detach(), plain, rtol=1e-12, atol=1e-12)
    # Both gaps are sums of some hundred float64 numbers: rounding is near 1e-14.
    assert residual(model, x) < 1e-11
    assert residual(model, x, reference=images(seed=1)) < 1e-11
    assert residual(model, x, "first") < 1e-11


@pytest.mark.parametrize("name", FUNCTIONS)
def test_replaying_at_the_recorded_input_gives_the_recorded_answer(name: str) -> None:
    with Recording(
        between(FUNCTIONS[name]), images(), Needs("input", gates="frozen", tape=True)
    ) as (recording):
        for _ in range(2):  # twice: a replay must not spoil what is on the tape
            again = recording.replay("input", images())
            torch.testing.assert_close(again, recording.logits.detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "function",
    [F.gelu, F.silu, F.hardswish, F.mish, torch.tanh, F.elu, F.selu, torch.sin, F.softsign],
)
def test_a_gate_at_exactly_zero_is_finite(function: Function) -> None:
    """f(x) / x has no value at 0; what is put there must be finite, as 0 times it is 0."""
    model = between(lambda x: function(x * 0.0))
    with Recording(model, images(), Needs("input", gates="frozen", tape=True)) as recording:
        [gradient] = recording.gradients(torch.ones_like(recording.logits), "input")
        assert torch.isfinite(gradient).all()


def test_half_of_a_product_goes_to_each_factor() -> None:
    """d(a b) with both active: b / 2 and a / 2, so that together they carry a b once."""
    halves = VisionModel(Split(), name="split")
    x = torch.tensor([[[[3.0, 5.0]]]], dtype=torch.float64)
    with Recording(halves, x, Needs("input", gates="frozen")) as recording:
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
    with Recording(VisionModel(Gelu()), x, Needs("input", gates="frozen")) as recording:
        [gradient] = recording.gradients(torch.tensor([[1.0, 0.0]]), "input")
    assert gradient.flatten().tolist() == pytest.approx([expected, 0])
