"""Functions that the rescale rule takes apart into exact steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_activation_error.deep_lift.secants import (
    chosen,
    larger,
    of_degree_two,
    of_one,
    of_two,
    root_of_degree_two,
    scaled,
    valued,
)
from cvx_core.recording import MAX_POOLS, Call, active, argument

_ELEMENTWISE = (
    "gelu silu hardswish mish tanh elu selu celu softsign tanhshrink sqrt "
    "asinh arcsinh atan arctan log1p expm1 sin sinh tan cos square "
    "relu leaky_relu prelu rrelu relu6 hardtanh threshold abs softshrink hardshrink "
    "sigmoid hardsigmoid softplus log_sigmoid logsigmoid "
    "exp exp2 log log2 log10 rsqrt reciprocal erf erfc round floor ceil sign sgn"
)
_PRODUCTS = (
    "mul multiply matmul bmm mm mv dot inner outer ger vdot linalg_vecdot kron tensordot einsum "
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "addcmul addmm baddbmm addbmm"
)


def _elementwise(call: Call, before: Call) -> Any:
    rest, kwargs = call.args[1:], call.kwargs
    return of_one(lambda x: call.run(x, *rest, **kwargs), call.args[0], before.args[0])[0]


def _power(call: Call, before: Call) -> Any:
    exponent = argument(call, 1, "exponent")
    if isinstance(exponent, Tensor) or not isinstance(call.args[0], Tensor):
        return call.native()
    return _elementwise(call, before)


def _clamp(call: Call, before: Call) -> Any:
    low = None if call.name == "clamp_max" else argument(call, 1, "min")
    high = argument(call, 1 if call.name == "clamp_max" else 2, "max")
    if not active(low, high):
        return _elementwise(call, before)
    low0 = None if call.name == "clamp_max" else argument(before, 1, "min")
    high0 = argument(before, 1 if call.name == "clamp_max" else 2, "max")
    x, x0 = call.args[0], before.args[0]
    if low is not None:
        x, x0 = larger(x, x0, *(torch.as_tensor(v).to(x) for v in (low, low0)))
    if high is not None:
        x, x0 = larger(-x, -x0, *(-torch.as_tensor(v).to(x) for v in (high, high0)))
        x = -x
    return x


def _product(call: Call, before: Call) -> Any:
    given = [*call.args, *call.kwargs.values()]
    for one in call.args:
        if isinstance(one, tuple | list):
            given += one
    count = 0
    for one in given:
        count += isinstance(one, Tensor) and one.requires_grad
    # One factor alone is linear; more than two are of a higher degree.
    if count < 2 or (call.name == "einsum" and count > 2):
        return call.native()
    return of_degree_two(call, before)


def _quotient(call: Call, before: Call) -> Any:
    (a, b), (a0, b0) = ((one.args[0], argument(one, 1, "other")) for one in (call, before))
    rounded = bool(call.args[2:]) or "rounding_mode" in call.kwargs
    if rounded or not isinstance(b, Tensor) or not active(b):
        return call.native()
    a, a0 = (torch.as_tensor(v, dtype=b.dtype, device=b.device) for v in (a, a0))
    shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return scaled(a.expand(shape), a0.expand(shape), *of_one(torch.reciprocal, b, b0))[0]


def _gated_half(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim", -1)
    (a, b), (a0, b0) = (c.args[0].chunk(2, dim) for c in (call, before))
    return of_two(torch.mul, a, a0, *of_one(torch.sigmoid, b, b0))[0]


def _exponentials(x: Tensor, x0: Tensor, dim: Any) -> tuple[Tensor, ...]:
    """Return exp(x) and exp(x0), divided by the largest of both, with their sums."""
    top = torch.maximum(x.detach().amax(dim, keepdim=True), x0.amax(dim, keepdim=True))
    e, e0 = of_one(lambda v: (v - top).exp(), x, x0)
    return e, e0, e.sum(dim, keepdim=True), e0.sum(dim, keepdim=True), top


def _soft(x: Tensor, x0: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    e, e0, total, total0, _ = _exponentials(x, x0, dim)
    return scaled(e, e0, *of_one(torch.reciprocal, total, total0))


def _softmax(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim", -1)
    return _soft(call.args[0], before.args[0], -1 if dim is None else dim)[0]


def _log_softmax(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim", -1)
    x, x0 = call.args[0], before.args[0]
    _, _, total, total0, top = _exponentials(x, x0, dim)
    return x - top - of_one(torch.log, total, total0)[0]


def _logsumexp(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim")
    _, _, total, total0, top = _exponentials(call.args[0], before.args[0], dim)
    found = of_one(torch.log, total, total0)[0] + top
    return found if argument(call, 2, "keepdim", False) else found.squeeze(dim)


def _spread_and_mean(call: Call, before: Call) -> Any:
    first = [
        Call(
            one.name,
            lambda *args, **kwargs: call.run(*args, **kwargs)[0],
            one.args,
            one.kwargs,
            None,
        )
        for one in (call, before)
    ]
    exact = of_degree_two if call.name == "var_mean" else root_of_degree_two
    return exact(*first), call.native()[1]


def _norm(call: Call, before: Call) -> Any:
    """A root of squares; other norms keep their own derivative."""
    order = argument(call, 1, "p" if call.name == "norm" else "ord")
    euclidean = order in (None, "fro") or (order == 2 and call.name != "linalg_norm")
    return root_of_degree_two(call, before) if euclidean else call.native()


def _cosine(call: Call, before: Call) -> Any:
    dim, eps = argument(call, 2, "dim", 1), argument(call, 3, "eps", 1e-8)

    def length(x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
        return found

    def direction(x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        one, other = (Call("norm", length, (v,), {}, None) for v in (x, x0))
        lengths = root_of_degree_two(one, other), length(x0)
        return scaled(x, x0, *of_one(lambda n: n.clamp_min(eps).reciprocal(), *lengths))

    pairs = [(argument(call, k, f"x{k + 1}"), argument(before, k, f"x{k + 1}")) for k in (0, 1)]
    (a, a0), (b, b0) = (direction(*pair) for pair in pairs)
    return of_two(torch.mul, a, a0, b, b0)[0].sum(dim)


def _centred(
    x: Tensor, x0: Tensor, dims: tuple[int, ...], eps: float, *, mean: bool = True
) -> Tensor:
    """Return x less its mean over its deviation, which is a product of two that both change."""
    c, c0 = (v - v.mean(dims, keepdim=True) if mean else v for v in (x, x0))
    square, square0 = of_one(torch.square, c, c0)
    spread, spread0 = (v.mean(dims, keepdim=True) + eps for v in (square, square0))
    return scaled(c, c0, *of_one(torch.rsqrt, spread, spread0))[0]


def _affine(out: Tensor, weight: Tensor | None, bias: Tensor | None, fit: Any = None) -> Tensor:
    if fit is not None:
        weight, bias = (None if v is None else v.reshape(fit) for v in (weight, bias))
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _layer_norm(call: Call, before: Call) -> Any:
    dims = tuple(range(-len(argument(call, 1, "normalized_shape")), 0))
    out = _centred(call.args[0], before.args[0], dims, argument(call, 4, "eps", 1e-5))
    return _affine(out, argument(call, 2, "weight"), argument(call, 3, "bias"))


def _rms_norm(call: Call, before: Call) -> Any:
    x, eps = call.args[0], argument(call, 3, "eps")
    dims = tuple(range(-len(argument(call, 1, "normalized_shape")), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    out = _centred(x, before.args[0], dims, eps, mean=False)
    return _affine(out, argument(call, 2, "weight"), None)


def _group_norm(call: Call, before: Call) -> Any:
    weight, bias = argument(call, 2, "weight"), argument(call, 3, "bias")
    groups, eps = argument(call, 1, "num_groups"), argument(call, 4, "eps", 1e-5)
    return _grouped(call.args[0], before.args[0], groups, weight, bias, eps)


def _instance_norm(call: Call, before: Call) -> Any:
    if not argument(call, 5, "use_input_stats", True):
        return call.native()
    x, weight, bias = call.args[0], argument(call, 1, "weight"), argument(call, 2, "bias")
    eps = argument(call, 7, "eps", 1e-5)
    return _grouped(x, before.args[0], x.shape[1], weight, bias, eps)


def _grouped(
    x: Tensor, x0: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    dims = tuple(range(2, len(split)))
    out = _centred(x.reshape(split), x0.reshape(split), dims, eps).reshape(x.shape)
    return _affine(out, weight, bias, (-1, *[1] * (x.ndim - 2)))


def _batch_norm(call: Call, before: Call) -> Any:
    if not argument(call, 5, "training", False):
        return call.native()
    x, weight, bias = call.args[0], argument(call, 1, "weight"), argument(call, 2, "bias")
    dims = (0, *range(2, x.ndim))
    out = _centred(x, before.args[0], dims, argument(call, 7, "eps", 1e-5))
    return _affine(out, weight, bias, (-1, *[1] * (x.ndim - 2)))


def _attention(call: Call, before: Call) -> Any:
    (q, k, v), (q0, k0, v0) = (
        tuple(argument(c, i, n) for i, n in enumerate(("query", "key", "value")))
        for c in (call, before)
    )
    if argument(call, 7, "enable_gqa", False):
        shared = q.shape[-3] // k.shape[-3]
        k, k0, v, v0 = (one.repeat_interleave(shared, -3) for one in (k, k0, v, v0))
    scale = argument(call, 6, "scale") or 1 / math.sqrt(q.shape[-1])
    scores, scores0 = of_two(torch.matmul, q, q0, k.transpose(-2, -1), k0.transpose(-2, -1))
    scores, scores0 = scores * scale, scores0 * scale
    mask, mask0 = argument(call, 3, "attn_mask"), argument(before, 3, "attn_mask")
    if argument(call, 5, "is_causal", False):
        mask = mask0 = torch.ones_like(scores0[..., :, :], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        scores, scores0 = (s.masked_fill(~mask, float("-inf")) for s in (scores, scores0))
    elif mask is not None:
        scores, scores0 = scores + mask, scores0 + mask0
    return of_two(torch.matmul, *_soft(scores, scores0, -1), v, v0)[0]


def _max_pool(call: Call, before: Call) -> Any:
    x, x0 = call.args[0], before.args[0]
    position = 2 if call.name.startswith("adaptive") else 6
    name, both, _ = call.name.partition("_with_indices")
    asked = bool(both) or bool(argument(call, position, "return_indices", False))
    kwargs = {k: v for k, v in call.kwargs.items() if k != "return_indices"}
    pool, start = getattr(F, name), x.ndim - int(name[-2])
    with torch.no_grad():
        now, then = (
            pool(one, *call.args[1:position], **kwargs, return_indices=True)[1]
            for one in (x.detach(), x0)
        )

    def at(source: Tensor, indices: Tensor) -> Tensor:
        return source.flatten(start).gather(-1, indices.flatten(start)).view(indices.shape)

    values, _ = chosen(at, x, x0, now, then)
    return (values, now) if asked else values


def _larger_or_smaller(call: Call, before: Call) -> Any:
    sign = -1 if "min" in call.name else 1
    pairs = [(argument(one, 0, "input"), argument(one, 1, "other")) for one in (call, before)]
    (a, b), (a0, b0) = ((sign * a, sign * b) for a, b in pairs)
    return sign * larger(a, a0, b, b0)[0]


def _extreme(call: Call, before: Call) -> Any:
    """amax and amin; max and min in their three forms: of two, along a dimension, over all."""
    if isinstance(argument(call, 1, "other"), Tensor):
        return _larger_or_smaller(call, before)
    sign = -1 if "min" in call.name else 1
    x, x0 = sign * call.args[0], sign * before.args[0]
    given = argument(call, 1, "dim")
    keep = bool(argument(call, 2, "keepdim", False))
    if given is None or given == ():
        x, x0, given = x.flatten(), x0.flatten(), 0
        keep = False
    dims = (given,) if isinstance(given, int) else tuple(given)
    for dim in dims:
        now, then = (one.argmax(dim, keepdim=True) for one in (x.detach(), x0))
        x, x0 = chosen(partial(_gathered, dim), x, x0, now, then)
    values = sign * (x if keep else x.squeeze(dims))
    with torch.no_grad():
        native = call.native()
    if isinstance(native, Tensor):
        return valued(native, values.reshape(native.shape))
    return type(native)((valued(native[0], values), native[1]))


RESCALED: dict[str, Callable[[Call, Call], Any]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(_PRODUCTS.split(), _product),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), _clamp),
    **dict.fromkeys(("div", "divide", "true_divide"), _quotient),
    **dict.fromkeys(MAX_POOLS, _max_pool),
    **dict.fromkeys(("max", "min", "amax", "amin"), _extreme),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _larger_or_smaller),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm", "frobenius_norm"), _norm),
    **dict.fromkeys(("var_mean", "std_mean"), _spread_and_mean),
    "var": of_degree_two,
    "std": root_of_degree_two,
    "pow": _power,
    "glu": _gated_half,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "cosine_similarity": _cosine,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "rms_norm": _rms_norm,
    "scaled_dot_product_attention": _attention,
}
"""What runs instead of a function, given its call and the one for the baseline."""


def _gathered(dim: int, source: Tensor, where: Tensor) -> Tensor:
    return source.gather(dim, where)
