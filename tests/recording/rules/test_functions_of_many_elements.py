"""Functions of many elements, one by one: scales, choices, products and attention.

As in test_elementwise.py: the same value, and affine once the gates are frozen.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]

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
    "spread as a factor": lambda x: x * (x.var(1, keepdim=True) + x.std(1, keepdim=True)),
    "spread of var_mean as a factor": lambda x: x * torch.var_mean(x, 1, keepdim=True)[0],
    "spread of std_mean as a factor": lambda x: x * torch.std_mean(x, 1, keepdim=True)[0],
    "norms as factors": lambda x: (
        x * torch.linalg.vector_norm(x, dim=1, keepdim=True)
        + x * torch.linalg.norm(x, dim=1, keepdim=True)
        + x * torch.linalg.matrix_norm(x, keepdim=True)
    ),
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
    "max_pool1d with indices": lambda x: F.max_unpool1d(
        *F.max_pool1d(x.flatten(2), 3, return_indices=True), 3
    ),
    "max_pool3d with indices": lambda x: F.max_pool3d(x[:, None], 2, return_indices=True)[0],
    "adaptive pooling with indices": lambda x: x.flatten(1).gather(
        1, F.adaptive_max_pool2d(x, 2, return_indices=True)[1].flatten(1)
    ),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(x[:, None], 2),
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
    "cummin": lambda x: x.cummin(2).values,
    "fmax and fmin": lambda x: torch.fmax(x, 0.1 - x) + torch.fmin(x, x.flip(2)),
    "argmin": lambda x: x.gather(1, x.argmin(1, keepdim=True)),
    "argsort": lambda x: x.gather(1, x.argsort(1)),
    "comparisons": lambda x: (
        x * (x < 0.1) + x * (x <= -0.1) + x * (x.eq(0) | x.ne(0)) - x * torch.greater(x, 0.2)
    ),
    "bucketize": lambda x: x * torch.bucketize(x, ramp(x, 3)),
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
    "multiply": lambda x: torch.multiply(x, x.flip(2)),
    "mm": lambda x: alone(x, lambda one: torch.mm(one[0, 0], one[0, 1])[None]),
    "mv and dot": lambda x: alone(
        x, lambda one: torch.mv(one[0, 0], one[0, 1, 0])[None] + one[0, 2, 0].dot(one[0, 3, 1])
    ),
    "outer": lambda x: torch.outer(x.flatten(), ramp(x, 3)).view(len(x), -1),
    "linear with a computed weight": lambda x: alone(
        x, lambda one: F.linear(one, one.mean((0, 1)))
    ),
    "convolution with a computed kernel": lambda x: alone(
        x, lambda one: F.conv2d(one, one[:, :, :3, :3], ramp(x, 1), padding=1)
    ),
    "div": lambda x: x / (x.abs().sum(1, keepdim=True) + 1),
    "divide": lambda x: torch.divide(x, x.abs() + 1) + torch.true_divide(x, x.square() + 1),
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
FUNCTIONS = {**SCALES, **CHOICES, **PRODUCTS, **ATTENTION}


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


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_keeps_its_value_and_is_conserved(
    name: str, conserved: Callable[[Function], None]
) -> None:
    conserved(FUNCTIONS[name])
