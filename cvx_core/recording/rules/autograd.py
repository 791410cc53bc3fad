"""Autograd functions with a given value and given derivatives, and the nodes of their graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def graph_nodes(start: Any) -> list[Any]:
    """Return a node of the autograd graph, and all that it was made from."""
    found, seen, stack = [], set(), [start]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        found.append(node)
        seen.add(node)
        for before, _ in node.next_functions:
            stack.append(before)
    return found


class GivenSlopes(torch.autograd.Function):
    """Function with a given value, whose derivative with respect to each term is a given slope.

    Called with ``(value,)``, a tuple of slopes (None is 1), and the terms.
    """

    @staticmethod
    def forward(ctx: Any, value: Any, slopes: Any, *terms: Tensor) -> Tensor:
        ctx.save_for_backward(*slopes)
        # A new tensor: the result of a function becomes part of the graph, the value must not.
        result: Tensor = value[0].detach()
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        # Functions are still intercepted during the backward pass, for checkpointed parts; this
        # product is not one of the network's.
        with torch._C.DisableTorchFunction():
            found: list[Tensor | None] = [None, None]
            for slope in ctx.saved_tensors:  # a comprehension is a call for each node
                found.append(grad if slope is None else grad * slope)  # noqa: PERF401
            return tuple(found)


# The following return a clone and not y itself: a result that is a view of an input could not be
# overwritten in place by the network.
class Affine(torch.autograd.Function):
    """Has a given value, and a given slope as its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(*([] if slope is None else [slope]))
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        for slope in ctx.saved_tensors:
            grad = grad * slope
        return grad, None, None


class Centred(torch.autograd.Function):
    """Has a given value; its derivative subtracts the mean over `dims` and scales."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, scale: Tensor, weight: Tensor | None, dims: Any
    ) -> Tensor:
        ctx.save_for_backward(scale, *([] if weight is None else [weight]))
        ctx.dims = dims
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        scale, *weight = ctx.saved_tensors
        for factor in weight:
            grad = grad * factor
        grad = grad * scale
        grad = grad - grad.mean(ctx.dims, keepdim=True)
        return grad, None, None, None, None


class Halved(torch.autograd.Function):
    """The identity, whose derivative is one half."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 0.5
