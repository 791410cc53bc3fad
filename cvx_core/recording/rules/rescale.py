"""The rescale rule of DeepLIFT: slopes between two inputs instead of derivatives at one.

A reference input x0 is run first, and every function keeps what it saw. Then, for the input x,
    a function of one element has the slope (y - y0) / (x - x0),
    a product has d(ab) = (b + b0)/2 da + (a + a0)/2 db, which is exact,
    max pooling gives a rise to the cell that is highest now and a fall to the one that was.
Softmax, normalisation and attention are put together from these. Since every step is exact, the
contributions (x - x0) * g sum to S(x) - S(x0) (Shrikumar 2017, arXiv:1704.02685, eq. 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.errors import MethodError
from cvx_core.recording.rules.call import Call, active, argument
from cvx_core.recording.rules.passage import Backward, Mixed, Passage, Propagation
from cvx_core.recording.rules.products import second_of
from cvx_core.recording.saved import Saved
from cvx_core.reference import check_reference, reference_of

if TYPE_CHECKING:
    from cvx_core.vision_model import VisionModel

_Unary = Callable[[Tensor], Tensor]

_NEAR = 1e-6
"""Where x and x0 differ by less the derivative halfway between is taken; to x and x0, or to 1."""

_ELEMENTWISE = (
    "gelu silu hardswish mish tanh elu selu celu softsign tanhshrink sqrt "
    "asinh arcsinh atan arctan log1p expm1 sin sinh tan cos square "
    "relu leaky_relu prelu relu6 hardtanh threshold abs softshrink hardshrink "
    "clamp clip clamp_min clamp_max sigmoid hardsigmoid softplus log_sigmoid logsigmoid "
    "exp exp2 log log2 log10 rsqrt reciprocal erf erfc"
)


@dataclass(frozen=True)
class Rescale(Propagation):
    """The rescale rule, with a reference of `cvx_core.reference.REFERENCES`."""

    reference: str = "zero"

    def __post_init__(self) -> None:
        check_reference(self.reference)

    def begin(self, model: VisionModel, saved: Saved, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the rules of one recording."""
        return _Comparison(self.reference, saved)


class _Comparison(Passage):
    def __init__(self, name: str, saved: Saved) -> None:
        self.name = name
        self.saved = saved
        self.comparing = False
        self._kept: list[tuple[str, Any]] = []
        self._next = 0
        rules: dict[str, Callable[..., Any]] = {
            **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
            **dict.fromkeys(("mul", "multiply", "matmul", "bmm", "mm", "mv", "dot"), _product),
            **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _product),
            **dict.fromkeys(("div", "divide", "true_divide"), _quotient),
            **{
                f"{kind}max_pool{n}d{more}": _max_pool
                for kind in ("", "adaptive_")
                for n in (1, 2, 3)
                for more in ("", "_with_indices")
            },
            "pow": _power,
            "einsum": _einsum,
            "glu": _gated_half,
            "softmax": _softmax,
            "log_softmax": _log_softmax,
            "layer_norm": _layer_norm,
            "group_norm": _group_norm,
            "rms_norm": _rms_norm,
            "scaled_dot_product_attention": _attention,
        }
        self.table: Mapping[str, Callable[[Call], Any]] = {
            key: self._paired(rule) for key, rule in rules.items()
        }

    def compared_with(self, inputs: Tensor) -> Tensor:
        """Return the reference inputs."""
        return reference_of(self.name, inputs)

    def compare(self) -> None:
        """The reference was run."""
        self.comparing = True

    def _paired(self, rule: Callable[..., Any]) -> Callable[[Call], Any]:
        """Return a rule that first keeps a call's tensors and then gets them again."""

        def run(call: Call) -> Any:
            tensors = [v for v in (*call.args, *call.kwargs.values()) if isinstance(v, Tensor)]
            tensors += [v for a in call.args if isinstance(a, tuple | list) for v in a]
            if not self.comparing:
                entry = _tuples(call.args), tuple(call.kwargs.items())
                self._kept.append((call.name, self.saved.keep(entry)))
                return call.native()
            args, kwargs = self.saved.restore(self._take(call.name))
            if not active(*tensors):
                return call.native()
            return rule(call, Call(call.name, call.run, args, dict(kwargs), None))

        return run

    def _take(self, name: str) -> Any:
        if self._next >= len(self._kept) or self._kept[self._next][0] != name:
            raise MethodError(
                f"The network takes another way for the image than for the reference: {name!r} "
                "has no counterpart.",
                "Choose another reference. A network that computes parts again in its backward "
                "pass (checkpointing) can't be compared.",
            )
        self._next += 1
        return self._kept[self._next - 1][1]

    def relevance(
        self,
        logits: Tensor,
        seed: Tensor,
        node: Tensor,
        reference: Tensor | None,
        backward: Backward,
    ) -> Tensor | None:
        """Return (a - a0) * g."""
        [gradient] = backward(logits, [node], seed)
        assert reference is not None
        return None if gradient is None else (node.detach() - reference) * gradient


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, tuple | list) else value


def _secant(x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, run: _Unary) -> Tensor:
    """Return (y - y0) / (x - x0), and the derivative of `run` where that is nearly 0 / 0."""
    x = x.detach()
    step = x - x0
    near = ~(step.abs() > _NEAR * torch.maximum(x.abs(), x0.abs()).clamp(min=1)) | step.isinf()
    slope = (y - y0) / torch.where(near, torch.ones_like(step), step)
    if bool(near.any()):
        with torch.enable_grad():
            point = torch.where(near, (x + x0) / 2, x).requires_grad_()
            (own,) = torch.autograd.grad(run(point).sum(), point)
        slope = torch.where(near, own, slope)
    return slope.nan_to_num(0.0, 0.0, 0.0)


def _of_one(run: _Unary, x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function's answers to both inputs, the first with the rescaled slope."""
    with torch.no_grad():
        y, y0 = run(x.detach()), run(x0)
    return Mixed.apply((y,), (_secant(x, x0, y, y0, run),), x), y0


def _of_two(
    run: Callable[[Tensor, Tensor], Tensor], a: Tensor, a0: Tensor, b: Tensor, b0: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the products of both pairs, the first with exact shares."""
    with torch.no_grad():
        y0 = run(a0, b0)
    if not (active(a) and active(b)):
        return run(a, b), y0
    with torch.no_grad():
        y = run(a.detach(), b.detach())
        half_a, half_b = (a + a0) / 2, (b + b0) / 2
    return Mixed.apply((y,), (None, None), run(a, half_b), run(half_a, b)), y0


def _scaled(a: Tensor, a0: Tensor, r: Tensor, r0: Tensor) -> tuple[Tensor, Tensor]:
    """Return a * r and a0 * r0 for a scale r, the first with exact shares.

    d(a r) = r da + a0 dr = r0 da + a dr. Of the two the one with the smaller scale is taken: a
    reference without contrast has a huge one, whose contributions would be huge too and cancel.
    """
    with torch.no_grad():
        now, y = r.detach().expand_as(a), a.detach() * r.detach()
        less = now.abs() <= r0.abs()
        slopes = torch.where(less, now, r0), torch.where(less, a0, a)
    return Mixed.apply((y,), slopes, a, r.expand_as(a)), a0 * r0


def _elementwise(call: Call, before: Call) -> Any:
    rest, kwargs = call.args[1:], call.kwargs
    return _of_one(lambda x: call.run(x, *rest, **kwargs), call.args[0], before.args[0])[0]


def _power(call: Call, before: Call) -> Any:
    exponent = argument(call, 1, "exponent")
    if isinstance(exponent, Tensor) or not isinstance(call.args[0], Tensor):
        return call.native()
    return _elementwise(call, before)


def _product(call: Call, before: Call) -> Any:
    name = second_of(call.name)
    a, b = call.args[0], argument(call, 1, name)
    if not (active(a) and active(b)):
        return call.native()
    bias = argument(call, 2, "bias") if name == "weight" else None
    rest = call.args[2:] if bias is None else (None, *call.args[3:])
    kwargs = {k: v for k, v in call.kwargs.items() if k not in (name, "bias")}
    a0, b0 = before.args[0], argument(before, 1, name)
    out = _of_two(lambda p, q: call.run(p, q, *rest, **kwargs), a, a0, b, b0)[0]
    with torch.no_grad():
        y = call.native()
    return Mixed.apply((y,), (None,), out)


def _einsum(call: Call, before: Call) -> Any:
    def operands(one: Call) -> tuple[Any, ...]:
        given = one.args[1:]
        return tuple(given[0]) if len(given) == 1 and not isinstance(given[0], Tensor) else given

    if len(operands(call)) != 2:
        return call.native()
    (a, b), (a0, b0) = operands(call), operands(before)
    return _of_two(lambda p, q: call.run(call.args[0], p, q), a, a0, b, b0)[0]


def _quotient(call: Call, before: Call) -> Any:
    (a, b), (a0, b0) = ((one.args[0], argument(one, 1, "other")) for one in (call, before))
    rounded = bool(call.args[2:]) or "rounding_mode" in call.kwargs
    if rounded or not isinstance(b, Tensor) or not active(b):
        return call.native()
    a, a0 = (torch.as_tensor(v, dtype=b.dtype, device=b.device) for v in (a, a0))
    shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return _scaled(a.expand(shape), a0.expand(shape), *_of_one(torch.reciprocal, b, b0))[0]


def _gated_half(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim", -1)
    (a, b), (a0, b0) = (c.args[0].chunk(2, dim) for c in (call, before))
    return _of_two(torch.mul, a, a0, *_of_one(torch.sigmoid, b, b0))[0]


def _exponentials(x: Tensor, x0: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Return exp(x) and exp(x0), divided by the largest of both, with their sums."""
    top = torch.maximum(x.detach().amax(dim, keepdim=True), x0.amax(dim, keepdim=True))
    e, e0 = _of_one(lambda v: (v - top).exp(), x, x0)
    return e, e0, e.sum(dim, keepdim=True), e0.sum(dim, keepdim=True), top


def _soft(x: Tensor, x0: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    e, e0, total, total0, _ = _exponentials(x, x0, dim)
    return _scaled(e, e0, *_of_one(torch.reciprocal, total, total0))


def _softmax(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim", -1)
    return _soft(call.args[0], before.args[0], -1 if dim is None else dim)[0]


def _log_softmax(call: Call, before: Call) -> Any:
    dim = argument(call, 1, "dim", -1)
    x, x0 = call.args[0], before.args[0]
    _, _, total, total0, top = _exponentials(x, x0, dim)
    return x - top - _of_one(torch.log, total, total0)[0]


def _centred(
    x: Tensor, x0: Tensor, dims: tuple[int, ...], eps: float, *, mean: bool = True
) -> Tensor:
    """Return x less its mean over its deviation, which is a product of two that both change."""
    c, c0 = (v - v.mean(dims, keepdim=True) if mean else v for v in (x, x0))
    square, square0 = _of_one(torch.square, c, c0)
    spread, spread0 = (v.mean(dims, keepdim=True) + eps for v in (square, square0))
    return _scaled(c, c0, *_of_one(torch.rsqrt, spread, spread0))[0]


def _affine(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
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
    x, groups = call.args[0], argument(call, 1, "num_groups")
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    dims = tuple(range(2, len(split)))
    eps = argument(call, 4, "eps", 1e-5)
    out = _centred(x.reshape(split), before.args[0].reshape(split), dims, eps).reshape(x.shape)
    fit = (-1, *[1] * (x.ndim - 2))
    weight, bias = argument(call, 2, "weight"), argument(call, 3, "bias")
    return _affine(
        out,
        None if weight is None else weight.reshape(fit),
        None if bias is None else bias.reshape(fit),
    )


def _attention(call: Call, before: Call) -> Any:
    (q, k, v), (q0, k0, v0) = (
        tuple(argument(c, i, n) for i, n in enumerate(("query", "key", "value")))
        for c in (call, before)
    )
    mask, causal = argument(call, 3, "attn_mask"), argument(call, 5, "is_causal", False)
    if causal or argument(call, 7, "enable_gqa", False):
        return call.native()
    scale = argument(call, 6, "scale") or 1 / math.sqrt(q.shape[-1])
    scores, scores0 = _of_two(torch.matmul, q, q0, k.transpose(-2, -1), k0.transpose(-2, -1))
    scores, scores0 = scores * scale, scores0 * scale
    if mask is not None and mask.dtype == torch.bool:
        scores, scores0 = (s.masked_fill(~mask, float("-inf")) for s in (scores, scores0))
    elif mask is not None:
        scores, scores0 = scores + mask, scores0 + mask
    return _of_two(torch.matmul, *_soft(scores, scores0, -1), v, v0)[0]


def _max_pool(call: Call, before: Call) -> Any:
    """A rise is given to the cell that is highest now, a fall to the one that was before."""
    x, x0 = call.args[0], before.args[0]
    position = 2 if call.name.startswith("adaptive") else 6
    name, both, _ = call.name.partition("_with_indices")
    asked = bool(both) or bool(argument(call, position, "return_indices", False))
    kwargs = {k: v for k, v in call.kwargs.items() if k != "return_indices"}
    pool, start = getattr(F, name), x.ndim - int(name[-2])
    with torch.no_grad():
        y, now = pool(x.detach(), *call.args[1:position], **kwargs, return_indices=True)
        y0, then = pool(x0, *call.args[1:position], **kwargs, return_indices=True)

    def at(source: Tensor, indices: Tensor) -> Tensor:
        return source.flatten(start).gather(-1, indices.flatten(start)).view(indices.shape)

    terms = [at(x, now), at(x, then)]
    before_it = [at(x0, now), at(x0, then)]
    # A cell that was as high as any before and is highest now made the whole difference. (In a
    # reference of one colour all are as high as any.)
    same, move = y0 - before_it[0] <= _NEAR * y0.abs().clamp(min=1), y - y0
    moves = [torch.where(same, move, move.clamp(min=0)), torch.where(same, 0.0, move.clamp(max=0))]
    slopes = []
    for term, base, move in zip(terms, before_it, moves, strict=True):
        step = term.detach() - base
        still = (move == 0) | (step == 0)
        slopes.append(torch.where(still, 0.0, move / torch.where(still, 1.0, step)))
    values: Tensor = Mixed.apply((y,), tuple(slopes), *terms)
    return (values, now) if asked else values
