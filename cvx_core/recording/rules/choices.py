"""Choices: maxima, sorting, pooling. Their own gradient holds them; the tape keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording.rules.call import Call


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
