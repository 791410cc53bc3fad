"""Choices: maxima, sorting, pooling, and sampling at computed places.

Their own gradient goes to the chosen elements, and so freezes the choice. Only the tape needs more:
a replay must choose the same elements again, whatever their values are then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording.rules.call import Call, argument
from cvx_core.recording.rules.elementwise import piecewise

MAX_POOLS = tuple(
    f"{kind}max_pool{n}d{more}"
    for kind in ("", "adaptive_")
    for n in (1, 2, 3)
    for more in ("", "_with_indices")
)
"""Names of the functions of max pooling."""


def chosen_along(call: Call) -> Any:
    """Tape the indices of max, min, sort or topk along a dimension."""
    if call.replaying:
        indices, dim, kind = entry = call.take()
        if not isinstance(kind, _Rebuild):
            return _weighted(call, entry)
        values = call.args[0].gather(dim, indices)
        return kind(values, indices)
    result = call.native()
    if isinstance(result, Tensor):
        return _reduced(call, result)
    if call.tape is not None:
        dim = argument(call, 2 if call.name in ("topk", "kthvalue") else 1, "dim", -1)
        dim = -1 if isinstance(dim, bool) else dim  # sort(descending)
        indices = result[1]
        keeps = indices.ndim == call.args[0].ndim
        kind = _Rebuild(type(result), keeps, dim)
        call.put((indices if keeps else indices.unsqueeze(dim), dim, kind))
    return result


@dataclass(frozen=True)
class _Rebuild:
    named: Any
    keeps: bool
    dim: int

    def __call__(self, values: Tensor, indices: Tensor) -> Any:
        if not self.keeps:
            values, indices = values.squeeze(self.dim), indices.squeeze(self.dim)
        return self.named((values, indices))


def reduced(call: Call) -> Any:
    """Tape amax or amin as a weighted sum."""
    # Their gradient is shared equally among equal maxima, which indices could not express.
    if call.replaying:
        return _weighted(call, call.take())
    return _reduced(call, call.native())


def _weighted(call: Call, entry: tuple[Tensor, torch.Size, Any]) -> Tensor:
    weights, shape, dims = entry
    total: Tensor = (call.args[0] * weights).sum(dims)
    return total.reshape(shape)


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
    """Tape max or min in their three forms: over all, along a dimension, of two tensors."""
    if isinstance(argument(call, 1, "other"), Tensor):
        return of_two(call)
    if len(call.args) > 1 or "dim" in call.kwargs:
        return chosen_along(call)
    return reduced(call)


def clamped(call: Call) -> Any:
    """Tape clamp as piecewise linear; between bounds that are tensors, as maximum and minimum."""
    x = call.args[0]
    low = None if call.name == "clamp_max" else argument(call, 1, "min")
    high = argument(call, 1 if call.name == "clamp_max" else 2, "max")
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        return piecewise(call)
    if low is not None:
        low = torch.as_tensor(low, dtype=x.dtype, device=x.device)
        x = of_two(Call("maximum", torch.maximum, (x, low), {}, call.tape))
    if high is not None:
        high = torch.as_tensor(high, dtype=x.dtype, device=x.device)
        x = of_two(Call("minimum", torch.minimum, (x, high), {}, call.tape))
    return x


def of_two(call: Call) -> Any:
    """Tape which of the two maximum or minimum chose."""
    a, b = call.args[0], argument(call, 1, "other")
    if call.replaying:
        return torch.where(call.take(), a, b)
    if call.tape is not None:
        first = a.detach() >= b.detach() if "max" in call.name else a.detach() <= b.detach()
        call.put(first)
        return torch.where(first, a, b)
    return call.native()


def max_pool(call: Call) -> Any:
    """Tape the indices of the maxima of max pooling."""
    x, position = call.args[0], 2 if call.name.startswith("adaptive") else 6
    name, both, _ = call.name.partition("_with_indices")
    asked = bool(both) or bool(argument(call, position, "return_indices", False))
    if call.replaying:
        indices = call.take()
        start = x.ndim - int(name[-2])
        values = x.flatten(start).gather(-1, indices.flatten(start)).view(indices.shape)
        return (values, indices) if asked else values
    if call.tape is None:
        return call.native()
    kwargs = {k: v for k, v in call.kwargs.items() if k != "return_indices"}
    pool = getattr(F, name)
    values, indices = pool(*call.args[:position], **kwargs, return_indices=True)
    call.put(indices)
    return (values, indices) if asked else values


SAMPLERS = {
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), (1,)),
    **dict.fromkeys(("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"), (1,)),
    "deform_conv2d": (2, 3),
}
"""Functions that read an image at computed places: which arguments say where, or how much of it."""


def sampled(call: Call) -> Any:
    """Freeze the places at which a function reads: it is linear in what it reads there."""
    given, places = list(call.args), [k for k in SAMPLERS[call.name] if k < len(call.args)]
    if call.replaying:
        chosen = call.take()
    else:
        chosen = tuple(given[k].detach() for k in places)
        call.put(chosen)
    for k, one in zip(places, chosen, strict=True):
        given[k] = one
    return call.run(*given, **call.kwargs)
