"""Backward pass of a model, with its failures turned into errors that name the way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from cvx_core.errors import MethodError
from cvx_core.recording.interception.leakage import Origin


def pull_back(
    output: Tensor, nodes: Sequence[Tensor], vector: Tensor, *, twice: bool = False
) -> list[Tensor | None]:
    """Return d<vector, output> / d(node) for each node, None if there is no path.

    With `twice` the result has a graph, and can be differentiated with respect to the vector.

    Raises
    ------
    MethodError
        If the network's own backward pass fails.
    """
    try:
        return list(
            torch.autograd.grad(
                output, nodes, vector, retain_graph=True, create_graph=twice, allow_unused=True
            )
        )
    # A RuntimeError too, but not of the network: the caller goes on with a smaller batch.
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise MethodError(
            f"The network's backward pass failed: {reason}", _way_out(reason)
        ) from error


def no_path(name: str, ends: Sequence[Origin], *, frozen: bool) -> MethodError:
    """Return the error for a layer on which the model's output does not depend.

    Parameters
    ----------
    name
        The layer.
    ends
        The frozen functions that the output is computed from instead.
    frozen
        Whether gates are frozen.
    """
    where = ", ".join(f"{end.function} in {end.module or 'the network itself'}" for end in ends)
    return MethodError(
        f"No gradient flows from the model's output back to {name!r}"
        + (f": it ends in frozen functions, {where}." if where else "."),
        "With frozen gates nothing passes a sigmoid, softplus or softmax. Have the model return "
        "logits, not probabilities; where such a function is an activation inside, use a method "
        "that follows the model's own gradient."
        if frozen
        else "The model computes under no_grad, detaches, or decides by argmax after this "
        "layer; name a later one.",
    )


def _way_out(reason: str) -> str:
    if "inplace" in reason:
        return (
            "The network overwrites in place what its gradient needs, so that it can't be trained "
            "either; write that step out of place, or name a later layer."
        )
    if "reentrant" in reason:
        return "Let the network call checkpoint(..., use_reentrant=False), or no checkpoint at all."
    return "Name a later layer, behind the function that has no gradient."


def unlinked(output: Any) -> Any:
    """Return what a network returned, without graph, where torch can find the tensors in it."""
    return _pytree.tree_map(lambda one: one.detach() if isinstance(one, Tensor) else one, output)


def tangent(function: Callable[[Any], Tensor], at: Any, value: Any) -> Tensor:
    """Return what the tangent of a function at an output of the network is at another output.

    The function itself where the outputs hold no tensors that torch can find, or others.

    Parameters
    ----------
    function
        From what a network returns to (B, N).
    at, value
        Tensors, or nested tuples, lists and mappings of them.
    """
    (before, spec), (after, _) = _pytree.tree_flatten(at), _pytree.tree_flatten(value)
    moved = [k for k, one in enumerate(before) if _is_float(one)]
    if not moved or [_shape(one) for one in before] != [_shape(one) for one in after]:
        return function(value)

    change = [after[k] - before[k] for k in moved]
    with torch.enable_grad():
        start = [before[k].detach().requires_grad_() for k in moved]
        leaves = dict(enumerate(before)) | dict(zip(moved, start, strict=True))
        there = function(_pytree.tree_unflatten(list(leaves.values()), spec))
        if not there.requires_grad:
            return there
        # The derivative in one direction, by the backward pass of a backward pass.
        vector = torch.zeros_like(there, requires_grad=True)
        several = torch.autograd.grad(there, start, vector, create_graph=True, allow_unused=True)
        pairs = [(a * b).sum() for a, b in zip(several, change, strict=True) if a is not None]
        [slope] = torch.autograd.grad(torch.stack(pairs).sum(), [vector])
    return there.detach() + slope


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else None
