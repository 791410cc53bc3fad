"""Levels of a feature pyramid: the layers that together carry the output of a dense model.

A classifier's output passes one last grid. A detector reads several levels of a feature pyramid,
and the last grid of a segmenter is its output itself. The levels are the last layers with learned
modules behind them, on every path from the input to the output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cvx_core.errors import LayerError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, first_tensor
from cvx_core.recording.layers.layout import Layout
from cvx_core.recording.recording import Recording
from cvx_core.recording.requirements import Requirements
from cvx_core.recording.rules.autograd import graph_nodes

Node = Any
"""A node of the graph of automatic differentiation."""


def choose_levels(
    layout: Layout, model: VisionModel, inputs: Tensor, parts: Collection[int] | None = None
) -> tuple[Layer, ...]:
    """Return the last layers with a grid and learned modules behind them, one on each path.

    None of them lies behind another, so that their contributions add up. Paths to other parts of
    the output than `parts` (see `ModelOutput.parts`) don't count.

    Raises
    ------
    LayerError
        If a path from the input to the output passes none.
    """
    with torch.inference_mode(False):
        image = inputs[:1].clone()
        outputs, layers, learned = _graph(layout, model, image)
    wanted = [node for k, node in enumerate(outputs) if parts is None or k in parts]
    found = _last(wanted, layers, learned)
    if any(layers[node].tokens > layers[node].grid[0] * layers[node].grid[1] for node in found):
        # Behind its last attention the output may read class or detection tokens alone.
        silent = _silent(model, image, {p.name: p for p in layers.values()}, parts)
        layers = {node: layer for node, layer in layers.items() if layer.name not in silent}
        found = _last(wanted, layers, learned)
    while behind := [node for node in found if _reaches(node, found)]:
        # A layer behind another carries part of what the earlier one carries, and their maps would
        # count it twice. Without the later one, the search goes on to layers before it.
        layers = {node: layer for node, layer in layers.items() if node not in behind}
        found = _last(wanted, layers, learned)
    if not found:
        raise LayerError(
            "The network has no layer with a spatial grid on which its output depends.",
            "Explain at the input: a method that works there, or layer=input where one takes it.",
        )
    order = {(p.module, p.call): k for k, p in enumerate(layout.layers)}
    if len(found) > 1 and {(layers[node].kind, layers[node].grid) for node in found} == {
        ("tokens", layers[next(iter(found))].grid)
    }:
        # Not levels of a pyramid: the keys and values that each block of a decoder makes of the
        # same tokens.
        found = _shared(wanted, found, layers, image, order) or found
    several = len(found) > 1
    reason = (
        "one of the levels of the feature pyramid that the output is computed from"
        if several
        else "last spatial layer followed by learned layers"
    )
    chosen = sorted((layers[node] for node in found), key=lambda p: order[p.module, p.call])
    return tuple(
        replace(p, reason=f"{reason} ({p.grid[0]} x {p.grid[1]} positions)") for p in chosen
    )


def _graph(
    layout: Layout, model: VisionModel, image: Tensor
) -> tuple[list[Node], dict[Node, Layer], set[Node]]:
    """Run the network; return the nodes of its output's parts, layers and learned modules."""
    wanted: dict[tuple[str, int], Layer] = {(p.module, p.call): p for p in layout.layers}
    calls: dict[str, int] = {}
    layers: dict[Node, Layer] = {}
    learned: set[Node] = set()
    modules = dict(model.module.named_modules())

    def record(name: str, _args: Any, _kwargs: Any, output: Any) -> None:
        calls[name] = calls.get(name, -1) + 1
        tensor = first_tensor(output)
        if tensor is None or tensor.grad_fn is None:
            return
        # Own parameters: a container is learned only through the modules inside it, each of which
        # has a node of its own.
        if any(True for _ in modules[name].parameters(recurse=False)):
            learned.add(tensor.grad_fn)
        if (name, calls[name]) in wanted:
            layers[tensor.grad_fn] = wanted[name, calls[name]]

    with (
        hooked(modules.items(), after=record),
        evaluation_mode(model.module),
        torch.enable_grad(),
        eager(),
    ):
        output = model.parse_output(model.run(image.requires_grad_()))
        nodes = [part.grad_fn for part in output.parts]
    return nodes, layers, learned


def _silent(
    model: VisionModel, image: Tensor, layers: dict[str, Layer], parts: Collection[int] | None
) -> set[str]:
    """Return the names of layers with no gradient of these parts of the output at any position."""
    with Recording(model, image, Requirements(*layers), layers) as recording:
        draw = torch.Generator().manual_seed(0)
        seed = torch.cat(
            [
                torch.randn(part.shape, generator=draw) * float(parts is None or k in parts)
                for k, part in enumerate(recording.output.parts)
            ],
            dim=1,
        )
        found = recording.gradients(seed.to(recording.logits), *layers, missing="zero")
    pairs = zip(layers.values(), found, strict=True)
    return {one.name for one, slope in pairs if not one.positions(slope).any()}


def _last(outputs: Iterable[Node], layers: dict[Node, Layer], learned: set[Node]) -> set[Node]:
    """Return the layers with learned modules behind that are met first from the output."""
    found: set[Node] = set()
    # A node may be reached by one path with learned modules on it and by one without.
    todo, seen = [(output, False) for output in outputs], set()
    while todo:
        node, behind = todo.pop()
        if node is None or (node, behind) in seen:
            continue
        seen.add((node, behind))
        if behind and node in layers:
            found.add(node)
            continue
        behind = behind or node in learned
        todo += [(before, behind) for before, _ in node.next_functions]
    return found


def _shared(
    outputs: Iterable[Node],
    found: set[Node],
    layers: dict[Node, Layer],
    image: Tensor,
    order: dict[tuple[str, int], int],
) -> set[Node]:
    """Return the last layer with the same grid that all paths from the image pass, or none."""
    [grid] = {layers[node].grid for node in found}
    before = set.intersection(*(set(graph_nodes(node)) for node in found))
    alike = {node: p for node, p in layers.items() if node in before and p.grid == grid}
    for node in sorted(alike, key=lambda n: -order[alike[n].module, alike[n].call]):
        todo, seen = list(outputs), {None, node}
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += [previous for previous, _ in one.next_functions]
        if not any(getattr(one, "variable", None) is image for one in seen):
            return {node}
    return set()


def _reaches(node: Node, others: set[Node]) -> bool:
    """Whether one of the others lies before a node in the forward pass."""
    return any(one in others for one in graph_nodes(node) if one is not node)
