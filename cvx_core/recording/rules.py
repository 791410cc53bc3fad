"""What each intercepted function holds constant, how it is taped, and how it is replayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording.tape import Tape


@dataclass
class Call:
    """One call of an intercepted function."""

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tape: Tape | None

    @property
    def replaying(self) -> bool:
        """Whether the gates come from the tape."""
        return self.tape is not None and self.tape.replaying

    def native(self) -> Any:
        """Call the function as the model did."""
        return self.run(*self.args, **self.kwargs)

    def native_detached(self) -> Any:
        """Call the function outside the graph."""
        with torch.no_grad():
            args = tuple(a.detach() if isinstance(a, Tensor) else a for a in self.args)
            return self.run(*args, **self.kwargs)

    def put(self, entry: Any) -> None:
        """Keep a gate, if there is a tape."""
        if self.tape is not None:
            self.tape.put(self.name, entry)

    def take(self) -> Any:
        """Return the gate that was kept."""
        assert self.tape is not None
        return self.tape.take(self.name)


class _Affine(torch.autograd.Function):
    """Has a given value, and a given slope as its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(*([] if slope is None else [slope]))
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        for slope in ctx.saved_tensors:
            grad = grad * slope
        return grad, None, None


class _Centred(torch.autograd.Function):
    """Has a given value; its derivative subtracts the mean over `dims` and scales."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, y: Tensor, scale: Tensor, weight: Tensor | None, dims: Any
    ) -> Tensor:
        ctx.save_for_backward(scale, *([] if weight is None else [weight]))
        ctx.dims = dims
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        scale, *weight = ctx.saved_tensors
        for factor in weight:
            grad = grad * factor
        grad = grad * scale
        grad = grad - grad.mean(ctx.dims, keepdim=True)
        return grad, None, None, None, None


class _Halved(torch.autograd.Function):
    """The identity, whose derivative is one half."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:  # type: ignore[override]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * 0.5


def _active(*values: Any) -> bool:
    return any(isinstance(v, Tensor) and v.requires_grad for v in values)


# --- elementwise functions -------------------------------------------------------------------

_SLOPE_AT_ZERO = {"gelu": 0.5, "silu": 0.5, "hardswish": 0.5, "mish": 0.6, "pow": 0.0, "sqrt": 0.0}


def gated(call: Call) -> Any:
    """x * gate(x): the gate is a constant, f(x) / x."""
    x = call.args[0]
    if call.replaying:
        return x * call.take()
    y = call.native_detached()
    source = x.detach()
    slope = torch.where(
        source == 0, torch.full_like(y, _SLOPE_AT_ZERO.get(call.name, 1.0)), y / source
    )
    call.put(slope)
    return _Affine.apply(x, y, slope) if _active(x) else y  # type: ignore[no-untyped-call]


def piecewise(call: Call) -> Any:
    """Piecewise linear: its own derivative; slope and offset go on the tape."""
    x = call.args[0]
    if call.replaying:
        slope, offset = call.take()
        return x * slope if offset is None else x * slope + offset
    if call.tape is not None:
        with torch.enable_grad():
            source = x.detach().requires_grad_()
            y = call.run(source, *call.args[1:], **call.kwargs)
            (slope,) = torch.autograd.grad(y.sum(), source)
        if call.name == "relu":
            call.put((slope.to(torch.bool), None))
        else:
            call.put((slope, (y - slope * source).detach()))
    return call.native()


def power(call: Call) -> Any:
    """x ** p as x * x ** (p - 1); negative powers are scales and constant."""
    exponent = call.args[1] if len(call.args) > 1 else call.kwargs.get("exponent")
    if isinstance(exponent, Tensor):
        negative = bool((exponent <= 0).any()) or _active(exponent)
    else:
        negative = not isinstance(exponent, int | float) or exponent <= 0
    if negative or not isinstance(call.args[0], Tensor):
        return constant(call)
    return gated(call)


def shifted(call: Call) -> Any:
    """log_softmax: x less a constant."""
    x = call.args[0]
    if call.replaying:
        return x + call.take()
    y = call.native_detached()
    call.put(y - x.detach())
    return _Affine.apply(x, y, None) if _active(x) else y  # type: ignore[no-untyped-call]


def constant(call: Call) -> Any:
    """A scale, a probability or a choice: no gradient passes."""
    if call.replaying:
        return call.take()
    result = call.native_detached()
    call.put(result)
    return result


# --- choices ---------------------------------------------------------------------------------


def chosen_along(call: Call) -> Any:
    """max, min, sort, topk along a dimension: the indices are taped."""
    if call.replaying:
        indices, dim, kind = call.take()
        values = call.args[0].gather(dim, indices)
        return kind(values, indices)
    result = call.native()
    if isinstance(result, Tensor):
        return _reduced(call, result)
    if call.tape is not None:
        dim = call.kwargs.get("dim", call.args[-1] if len(call.args) > 1 else -1)
        dim = dim if isinstance(dim, int) and not isinstance(dim, bool) else -1
        if call.name == "topk":
            dim = call.kwargs.get("dim", call.args[2] if len(call.args) > 2 else -1)
        elif call.name in ("max", "min", "median", "sort"):
            dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else -1)
        indices = result[1]
        keeps = indices.ndim == call.args[0].ndim
        call.put((indices if keeps else indices.unsqueeze(dim), dim, _Rebuild(keeps, dim)))
    return result


@dataclass(frozen=True)
class _Rebuild:
    keeps: bool
    dim: int

    def __call__(self, values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        if self.keeps:
            return values, indices
        return values.squeeze(self.dim), indices.squeeze(self.dim)


def reduced(call: Call) -> Any:
    """amax, amin: a weighted sum whose weights are taped."""
    if call.replaying:
        weights, shape, dims = call.take()
        return (call.args[0] * weights).sum(dims).reshape(shape)
    return _reduced(call, call.native())


def _reduced(call: Call, result: Tensor) -> Tensor:
    if call.tape is not None:
        with torch.enable_grad():
            source = call.args[0].detach().requires_grad_()
            y = call.run(source, *call.args[1:], **call.kwargs)
            (weights,) = torch.autograd.grad(y.sum(), source)
        dims = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
        dims = tuple(range(source.ndim)) if dims is None or dims == () else dims
        call.put((weights, y.shape, dims))
    return result


def max_or_min(call: Call) -> Any:
    """max and min in their three forms: over all, along a dimension, of two tensors."""
    if len(call.args) > 1 and isinstance(call.args[1], Tensor):
        return of_two(call)
    if len(call.args) > 1 or "dim" in call.kwargs:
        return chosen_along(call)
    return reduced(call)


def of_two(call: Call) -> Any:
    """maximum, minimum: which of the two is taped."""
    a, b = call.args[0], call.args[1]
    if call.replaying:
        return torch.where(call.take(), a, b)
    if call.tape is not None:
        first = a.detach() >= b.detach() if "max" in call.name else a.detach() <= b.detach()
        call.put(first)
        return torch.where(first, a, b)
    return call.native()


def max_pool(call: Call) -> Any:
    """Max pooling: the places of the maxima are taped."""
    x = call.args[0]
    spatial = int(call.name[-2])
    if call.replaying:
        indices = call.take()
        start = x.ndim - spatial
        flat = x.flatten(start).gather(-1, indices.flatten(start))
        return flat.view(indices.shape)
    if call.tape is None:
        return call.native()
    pool = getattr(F, call.name)
    kwargs = {k: v for k, v in call.kwargs.items() if k != "return_indices"}
    values, indices = pool(*call.args, **kwargs, return_indices=True)
    call.put(indices)
    return (values, indices) if call.kwargs.get("return_indices") else values


# --- products --------------------------------------------------------------------------------


def product(call: Call) -> Any:
    """A product of two tensors that both depend on the input: half to each."""
    a, b = call.args[0], call.args[1] if len(call.args) > 1 else call.kwargs.get("other")
    if call.replaying:
        kept = call.take()
        if kept is None:
            return call.native()
        first, second = kept
        rest = call.args[2:]
        return 0.5 * (
            call.run(a, second, *rest, **call.kwargs) + call.run(first, b, *rest, **call.kwargs)
        )
    both = _active(a) and _active(b)
    call.put((a.detach(), b.detach()) if both else None)
    result = call.native()
    return _Halved.apply(result) if both else result  # type: ignore[no-untyped-call]


def einsum(call: Call) -> Any:
    """einsum of two operands, as a product; of more, as it is."""
    operands = call.args[1:]
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if len(operands) != 2:
        return call.native()
    equation, run = call.args[0], call.run
    return product(Call("einsum", lambda a, b: run(equation, a, b), operands, {}, call.tape))


def quotient(call: Call) -> Any:
    """a / b: the divisor is a scale and held."""
    a, b = call.args[0], call.args[1] if len(call.args) > 1 else call.kwargs.get("other")
    rest = call.args[2:]
    kwargs = {k: v for k, v in call.kwargs.items() if k != "other"}
    if not isinstance(b, Tensor):
        return call.native()
    if call.replaying:
        kept = call.take()
        return call.run(a, b if kept is None else kept, *rest, **kwargs)
    held = _active(b)
    call.put(b.detach() if held else None)
    return call.run(a, b.detach(), *rest, **kwargs)


# --- normalisation ---------------------------------------------------------------------------


def _centred(
    call: Call, x: Tensor, dims: Any, eps: float, weight: Tensor | None, bias: Tensor | None, y: Any
) -> Tensor:
    """Normalise over `dims`; `weight` and `bias` broadcast against x, which may be a view."""
    if call.replaying:
        scale = call.take()
        out = (x - x.mean(dims, keepdim=True)) * scale
        out = out if weight is None else out * weight
        return out if bias is None else out + bias
    with torch.no_grad():
        source = x.detach()
        wide = source.float() if source.dtype in (torch.float16, torch.bfloat16) else source
        scale = (wide.var(dims, unbiased=False, keepdim=True) + eps).rsqrt().to(source.dtype)
    call.put(scale)
    result: Tensor = (
        _Centred.apply(x, y().reshape(x.shape), scale, weight, dims)  # type: ignore[no-untyped-call]
        if _active(x)
        else y().reshape(x.shape)
    )
    return result


def _argument(call: Call, position: int, name: str, default: Any = None) -> Any:
    return call.args[position] if len(call.args) > position else call.kwargs.get(name, default)


def layer_norm(call: Call) -> Any:
    """Layer normalisation: the deviation is held, the mean is linear."""
    x, shape = call.args[0], _argument(call, 1, "normalized_shape")
    dims = tuple(range(-len(shape), 0))
    return _centred(
        call,
        x,
        dims,
        _argument(call, 4, "eps", 1e-5),
        _argument(call, 2, "weight"),
        _argument(call, 3, "bias"),
        call.native_detached,
    )


def group_norm(call: Call) -> Any:
    """Group normalisation: the deviation of each group is held."""
    x, groups = call.args[0], _argument(call, 1, "num_groups")
    weight, bias = _argument(call, 2, "weight"), _argument(call, 3, "bias")
    return _grouped(call, x, groups, weight, bias, _argument(call, 4, "eps", 1e-5))


def instance_norm(call: Call) -> Any:
    """Instance normalisation: as group normalisation with a group a channel."""
    x = call.args[0]
    if not _argument(call, 5, "use_input_stats", True):
        return call.native()
    weight, bias = _argument(call, 1, "weight"), _argument(call, 2, "bias")
    return _grouped(call, x, x.shape[1], weight, bias, _argument(call, 7, "eps", 1e-5))


def _grouped(
    call: Call, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    batch, channels = x.shape[:2]
    split = (batch, groups, channels // groups, *x.shape[2:])
    fit = (1, groups, channels // groups, *([1] * (x.ndim - 2)))
    out = _centred(
        call,
        x.reshape(split),
        tuple(range(2, x.ndim + 1)),
        eps,
        None if weight is None else weight.reshape(fit),
        None if bias is None else bias.reshape(fit),
        call.native_detached,
    )
    return out.reshape(x.shape)


def batch_norm(call: Call) -> Any:
    """Batch normalisation: affine when it uses running statistics, which is the rule."""
    x = call.args[0]
    if not _argument(call, 5, "training", False):
        return call.native()
    fit = (1, -1, *([1] * (x.ndim - 2)))
    weight, bias = _argument(call, 1, "weight"), _argument(call, 2, "bias")
    return _centred(
        call,
        x,
        (0, *range(2, x.ndim)),
        _argument(call, 7, "eps", 1e-5),
        None if weight is None else weight.reshape(fit),
        None if bias is None else bias.reshape(fit),
        call.native_detached,
    )


def rms_norm(call: Call) -> Any:
    """RMS normalisation: the root mean square is held."""
    x = call.args[0]
    if call.replaying:
        return x * call.take()
    shape, eps = _argument(call, 1, "normalized_shape"), _argument(call, 3, "eps")
    weight = _argument(call, 2, "weight")
    y = call.native_detached()
    source = x.detach()
    eps = torch.finfo(source.dtype).eps if eps is None else eps
    slope = (source.square().mean(tuple(range(-len(shape), 0)), keepdim=True) + eps).rsqrt()
    slope = slope if weight is None else slope * weight
    call.put(slope)
    return _Affine.apply(x, y, slope) if _active(x) else y  # type: ignore[no-untyped-call]


def var_mean(call: Call) -> Any:
    """var_mean, std_mean: the spread is held, the mean is linear."""
    x = call.args[0]
    kwargs = {k: v for k, v in call.kwargs.items() if k in ("dim", "keepdim")}
    if len(call.args) > 1:
        kwargs["dim"] = call.args[1]
    if call.replaying:
        return call.take(), x.mean(**kwargs)
    spread = call.native_detached()[0]
    call.put(spread)
    return spread, x.mean(**kwargs)


# --- attention -------------------------------------------------------------------------------


def scaled_dot_product_attention(call: Call) -> Any:
    """The probabilities are held: queries and keys take no gradient, values do."""
    query, key = _argument(call, 0, "query"), _argument(call, 1, "key")
    value, rest = _argument(call, 2, "value"), call.args[3:]
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("query", "key", "value")}
    if call.replaying:
        query, key = call.take()
    else:
        query, key = query.detach(), key.detach()
        call.put((query, key))
    return call.run(query, key, value, *rest, **kwargs)


def attention_probabilities(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return what `F.scaled_dot_product_attention` multiplies the values with."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (scale or 1 / math.sqrt(query.shape[-1]))
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        else:
            scores = scores + attn_mask
    return scores.softmax(-1)


_GATED = (
    "gelu silu hardswish mish tanh elu selu celu softsign tanhshrink logsigmoid sqrt "
    "asinh atan arctan erf log1p expm1 sin square"
)
_PIECEWISE = (
    "relu leaky_relu prelu rrelu relu6 hardtanh threshold clamp clip clamp_min clamp_max "
    "abs softshrink hardshrink"
)
_CONSTANT = (
    "softmax sigmoid hardsigmoid softplus exp exp2 log log2 log10 rsqrt reciprocal "
    "var std norm linalg_vector_norm linalg_norm linalg_matrix_norm frobenius_norm "
    "logsumexp cos erf erfc gt lt ge le eq ne greater less greater_equal less_equal "
    "argmax argmin argsort round floor ceil sign sgn bucketize searchsorted isnan isinf"
)
RULES: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(_GATED.split(), gated),
    **dict.fromkeys(_PIECEWISE.split(), piecewise),
    **dict.fromkeys(_CONSTANT.split(), constant),
    **dict.fromkeys(("mul", "multiply", "matmul", "bmm", "mm", "mv", "dot"), product),
    **dict.fromkeys(("div", "divide", "true_divide"), quotient),
    **dict.fromkeys(("sort", "topk", "median", "kthvalue", "cummax", "cummin"), chosen_along),
    **dict.fromkeys(("amax", "amin"), reduced),
    **dict.fromkeys(("max", "min"), max_or_min),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), of_two),
    **{f"{a}max_pool{n}d": max_pool for a in ("", "adaptive_") for n in (1, 2, 3)},
    **dict.fromkeys(("var_mean", "std_mean"), var_mean),
    "pow": power,
    "einsum": einsum,
    "log_softmax": shifted,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm": batch_norm,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
