"""Steps between two inputs that are exact: what is put together from them is exact too.

Most take tensors in pairs, of the image and of the baseline, and return a pair: the prediction to
the image, with derivatives d such that y - y0 = d (x - x0), and the prediction to the baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvx_core.recording import Call, GivenSlopes, active

Unary = Callable[[Tensor], Tensor]

NEAR = 1e-6
"""Where x and x0 differ by less the derivative halfway between is taken; to x and x0, or to 1."""


def valued(y: Tensor, out: Tensor) -> Tensor:
    """Return a tensor with the derivatives of `out` and the value y."""
    found: Tensor = GivenSlopes.apply((y,), (None,), out)
    return found


def of_one(run: Unary, x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of one element: its slope is (y - y0) / (x - x0)."""
    y, y0 = run(x.detach()).detach(), run(x0).detach()
    return GivenSlopes.apply((y,), (_secant(x, x0, y, y0, run),), x), y0


def _secant(x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, run: Unary) -> Tensor:
    """Return (y - y0) / (x - x0), and the derivative of `run` where that is nearly 0 / 0."""
    x = x.detach()
    step = x - x0
    near = ~(step.abs() > NEAR * torch.maximum(x.abs(), x0.abs()).clamp(min=1)) | step.isinf()
    slope = (y - y0) / torch.where(near, torch.ones_like(step), step)
    # Everywhere, without a look at whether it is needed, which would wait for the device.
    with torch.enable_grad():
        point = torch.where(near, (x + x0) / 2, x).requires_grad_()
        own = _derivative(run(point), point)
    slope = torch.where(near, own, slope)
    return slope.nan_to_num(0.0, 0.0, 0.0)


def _derivative(y: Tensor, x: Tensor) -> Tensor:
    """Return dy / dx of a function of one element."""
    # The nodes of a chain one after the other: autograd.grad takes some thirty calls in Python.
    node: Any = y.grad_fn
    found: Tensor = torch.ones_like(y)
    while node is not None and len(node.next_functions) == 1:
        found = node(found)
        node = node.next_functions[0][0]
        if getattr(node, "variable", None) is x:
            return found
    [found] = torch.autograd.grad(y, x, torch.ones_like(y))
    return found


def halfway(value: Any, before: Any) -> Any:
    """Return what lies halfway, with the derivative of the former; also of nested tensors."""
    if isinstance(value, Tensor):
        return value - ((value - before) / 2).detach() if active(value) else value
    if isinstance(value, tuple | list):
        return type(value)(halfway(one, other) for one, other in zip(value, before, strict=True))
    if isinstance(value, dict):
        return {key: halfway(one, before[key]) for key, one in value.items()}
    return value


def of_two(
    run: Callable[[Tensor, Tensor], Tensor], a: Tensor, a0: Tensor, b: Tensor, b0: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a product: d(ab) = (b + b0)/2 da + (a + a0)/2 db."""
    with torch.no_grad():
        y0 = run(a0, b0)
    if not (active(a) and active(b)):
        return run(a, b), y0
    with torch.no_grad():
        y = run(a.detach(), b.detach())
    return valued(y, run(halfway(a, a0), halfway(b, b0))), y0


def of_degree_two(call: Call, before: Call) -> Tensor:
    """Return a function of degree two at most in all its tensors together, such as a product.

    Its derivative halfway between two inputs makes the whole difference.
    """
    with torch.no_grad():
        y = call.native()
    middle = halfway(call.args, before.args), halfway(call.kwargs, before.kwargs)
    return valued(y, call.run(*middle[0], **middle[1]))


def root_of_degree_two(call: Call, before: Call) -> Tensor:
    """Return a function whose square is of degree two: y - y0 = (y^2 - y0^2) / (y + y0)."""
    with torch.no_grad():
        y, both = call.native(), call.native() + before.native()
        slope = torch.where(both == 0, 0.0, 1 / torch.where(both == 0, 1.0, both))
    middle = halfway(call.args, before.args), halfway(call.kwargs, before.kwargs)
    found: Tensor = GivenSlopes.apply((y,), (slope,), call.run(*middle[0], **middle[1]).square())
    return found


def scaled(a: Tensor, a0: Tensor, r: Tensor, r0: Tensor) -> tuple[Tensor, Tensor]:
    """Return a * r for a scale r.

    d(a r) = r da + a0 dr = r0 da + a dr. Of the two the one with the smaller scale is taken: a
    baseline without contrast has a huge one, whose contributions would be huge too and cancel.
    """
    with torch.no_grad():
        now, y = r.detach().expand_as(a), a.detach() * r.detach()
        less = now.abs() <= r0.abs()
        slopes = torch.where(less, now, r0), torch.where(less, a0, a)
    return GivenSlopes.apply((y,), slopes, a, r.expand_as(a)), a0 * r0


def larger(a: Tensor, a0: Tensor, b: Tensor, b0: Tensor) -> tuple[Tensor, Tensor]:
    """Return the larger of two: a + relu(b - a)."""
    more, more0 = of_one(torch.relu, b - a, b0 - a0)
    return valued(torch.maximum(a, b).detach(), a + more), a0 + more0


def chosen(
    at: Callable[[Tensor, Tensor], Tensor], x: Tensor, x0: Tensor, now: Tensor, then: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the highest of several: a rise is given to the one that is highest now, a fall to the
    one that was.

    Parameters
    ----------
    at
        From a source and indices to the values there.
    x, x0
        The sources.
    now, then
        Where each is highest.
    """
    terms = [at(x, now), at(x, then)]
    before = [at(x0, now), at(x0, then)]
    y, y0 = terms[0].detach(), before[1]
    # A cell that was as high as any before and is highest now made the whole difference. (In a
    # baseline of one colour all are as high as any.)
    same, move = y0 - before[0] <= NEAR * y0.abs().clamp(min=1), y - y0
    moves = [torch.where(same, move, move.clamp(min=0)), torch.where(same, 0.0, move.clamp(max=0))]
    slopes = []
    for term, base, move in zip(terms, before, moves, strict=True):
        step = term.detach() - base
        still = (move == 0) | (step == 0)
        slopes.append(torch.where(still, 0.0, move / torch.where(still, 1.0, step)))
    return GivenSlopes.apply((y,), tuple(slopes), *terms), y0
