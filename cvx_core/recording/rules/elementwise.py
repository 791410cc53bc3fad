"""Elementwise functions: gates, piecewise linear functions, and constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core.recording.rules.autograd import Affine
from cvx_core.recording.rules.call import Call, active


def gated(call: Call) -> Any:
    """Freeze the gate f(x) / x of a function f(x) = x * gate(x)."""
    x = call.args[0]
    if call.replaying:
        return x * call.take()
    y = call.native_detached()
    source = x.detach()
    # With the value of the function itself: x * slope would round, and change what comes after.
    slope = torch.where(source == 0, _slope_at_zero(call).to(y), y / source)
    call.put(slope)
    return Affine.apply(x, y, slope) if active(x) else y


def _slope_at_zero(call: Call) -> Tensor:
    """Return f'(0), the limit of f(x) / x; 0 if there is none, as for a square root."""
    rest = call.args[1:]
    shape = torch.broadcast_shapes(*(a.shape for a in rest if isinstance(a, Tensor)))  # type: ignore[no-untyped-call]
    # With own hooks, so that those of checkpointing don't count the tensors saved here.
    aside = torch.autograd.graph.saved_tensors_hooks(lambda kept: kept, lambda kept: kept)
    with torch.enable_grad(), aside:
        zero = call.args[0].new_zeros(shape).requires_grad_()
        [slope] = torch.autograd.grad(call.run(zero, *rest, **call.kwargs).sum(), [zero])
    found: Tensor = slope.nan_to_num(0.0, 0.0, 0.0)
    return found


def piecewise(call: Call) -> Any:
    """Keep a piecewise linear function's own derivative; tape its slope and offset."""
    x = call.args[0]
    if call.replaying:
        slope, offset = call.take()
        return x * slope if offset is None else x * slope + offset
    if call.tape is not None:
        with torch.enable_grad():
            source = x.detach().requires_grad_()
            y = call.run(source, *call.args[1:], **call.kwargs)
            (slope,) = torch.autograd.grad(y.sum(), source)
        # A relu's slope is 0 or 1 and its offset 0: a byte an element instead of eight.
        if call.name == "relu":
            call.put((slope.to(torch.bool), None))
        else:
            call.put((slope, (y - slope * source).detach()))
    return call.native()


def power(call: Call) -> Any:
    """Freeze the gate x ** (p - 1) of x ** p; negative powers are scales, and constant."""
    exponent = call.args[1] if len(call.args) > 1 else call.kwargs.get("exponent")
    if isinstance(exponent, Tensor):
        negative = bool((exponent <= 0).any()) or active(exponent)
    else:
        negative = not isinstance(exponent, int | float) or exponent <= 0
    if negative or not isinstance(call.args[0], Tensor):
        return constant(call)
    return gated(call)


def shifted(call: Call) -> Any:
    """Freeze what log_softmax or logsigmoid subtracts from x."""
    x = call.args[0]
    if call.replaying:
        return x + call.take()
    y = call.native_detached()
    call.put(y - x.detach())
    return Affine.apply(x, y, None) if active(x) else y


def constant(call: Call) -> Any:
    """Freeze a scale, a probability or a choice: no gradient passes."""
    if call.replaying:
        return call.take()
    result = call.native_detached()
    call.put(result)
    return result
