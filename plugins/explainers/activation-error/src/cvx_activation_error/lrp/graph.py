"""Linear layers of a recording, found in the autograd graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core.recording import graph_nodes

_NONNEGATIVE = "nonnegative"
_RECTIFIED = frozenset({"ReluBackward0", "SigmoidBackward0", "SoftmaxBackward0"})
# Choices, copies and averages of what they are given.
_CARRIERS = (
    "AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D Alias AvgPool2D "
    "AvgPool3D Cat Clone Expand MaxPool2DWithIndices MaxPool3DWithIndices Mean Permute "
    "ReshapeAlias Select Slice Split SplitWithSizes Squeeze Stack T Transpose Unsqueeze "
    "UnsafeView UpsampleBilinear2D UpsampleNearest2D View"
)
_CARRYING = frozenset(f"{name}Backward{n}" for name in _CARRIERS.split() for n in (0, 1))


def note_nonnegative(out: Tensor) -> None:
    """Note in the graph that no value of a result is negative."""
    node: Any = out.grad_fn
    if node is not None:
        node.metadata[_NONNEGATIVE] = True


def is_nonnegative(x: Tensor) -> bool:
    """Whether the graph of a tensor says that none of its values is negative.

    To look at the values would wait for the device, in each layer.
    """
    stack: list[Any] = [x.grad_fn]
    seen = set()
    while stack:
        node = stack.pop()
        if node is None:  # a constant, or a leaf
            return False
        if node in seen:
            continue
        seen.add(node)
        name = node.name()
        if name in _CARRYING:
            for before, _ in node.next_functions:
                stack.append(before)
        elif name == "torch::autograd::CopyBackwards":
            stack.append(node.next_functions[1][0])
        elif name not in _RECTIFIED and _NONNEGATIVE not in node.metadata:
            return False
    return True


def has_given_slopes(node: Any) -> bool:
    """Whether a node of the graph belongs to `GivenSlopes`."""
    return type(node).__name__ == "GivenSlopesBackward"


def nearest(start: Any) -> list[Any]:
    """Return the nodes of `GivenSlopes` that the graph reaches without passing another."""
    found, seen, stack = [], set(), [start]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if has_given_slopes(node):
            found.append(node)
        else:
            stack += [after for after, _ in node.next_functions]
    return found


def added_behind(start: Any) -> list[Tensor]:
    """Return the leaves that the graph reaches without passing a node of `GivenSlopes`."""
    found, seen, stack = [], set(), [start]
    while stack:
        node = stack.pop()
        if node is None or node in seen or has_given_slopes(node):
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack += [after for after, _ in node.next_functions]
    return found


def reaches(start: Any) -> bool:
    """Whether a node of `GivenSlopes` can be reached in the graph."""
    return any(map(has_given_slopes, graph_nodes(start)))


def from_input(x: Tensor) -> Tensor | None:
    """Return which values of a tensor depend on the recorded place, laid out as x; None for a leaf.

    What does not, such as zeros that were padded, is not the input's: J r is zero there, J being
    the derivative with respect to the layer and r random.
    """
    leaves = [node.variable for node in graph_nodes(x.grad_fn) if hasattr(node, "variable")]
    if not leaves:
        return None
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        vector = torch.zeros_like(x, requires_grad=True)
        pulled = torch.autograd.grad(x, leaves, vector, create_graph=True, allow_unused=True)
    found = torch.zeros_like(x, dtype=torch.bool)
    for one in pulled:
        if one is None or not one.requires_grad:
            continue
        noise = torch.rand(one.shape, generator=generator).to(one) + 0.5
        [pushed] = torch.autograd.grad(one, vector, noise, retain_graph=True, allow_unused=True)
        if pushed is not None:
            found |= pushed != 0
    return found
