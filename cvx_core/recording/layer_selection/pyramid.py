"""The places that carry the answer of a segmenter or detector: one for each level it reads.

A classifier's answer passes one last grid. A detector reads several levels of a feature pyramid,
and the last grid of a segmenter is its answer itself. Asked for here are the last places with
something learned behind them, on every way from the input to the answer.
"""

from __future__ import annotations

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

Node = Any
"""A node of the graph of automatic differentiation."""


def choose_levels(layout: Layout, model: VisionModel, inputs: Tensor) -> tuple[Layer, ...]:
    """Return the last places with a grid and something learned behind, one on each way.

    None of them lies behind another, so that what they carry adds up.

    Raises
    ------
    LayerError
        If a way from the input to the answer passes none.
    """
    with torch.inference_mode(False):
        answer, places, learned = _graph(layout, model, inputs[:1].clone())
    found = _last(answer, places, learned)
    while behind := [node for node in found if _reaches(node, found)]:
        # What lies behind another is reached through it as well: look further up instead.
        places = {node: place for node, place in places.items() if node not in behind}
        found = _last(answer, places, learned)
    if not found:
        raise LayerError(
            "The network has no layer with a spatial grid on which its output depends.",
            "Explain at the input: a method that works there, or layer=input where one takes it.",
        )
    several = len(found) > 1
    reason = (
        "one of the levels that the answer is read from"
        if several
        else ("the last grid with something learned behind it")
    )
    order = {(p.module, p.call): k for k, p in enumerate(layout.layers)}
    chosen = sorted((places[node] for node in found), key=lambda p: order[p.module, p.call])
    return tuple(replace(p, reason=f"{reason} ({p.grid[0]} x {p.grid[1]} cells)") for p in chosen)


def _graph(
    layout: Layout, model: VisionModel, image: Tensor
) -> tuple[Node, dict[Node, Layer], set[Node]]:
    """Run the network and return the answer's node, the places', and those of learned modules."""
    wanted: dict[tuple[str, int], Layer] = {(p.module, p.call): p for p in layout.layers}
    calls: dict[str, int] = {}
    places: dict[Node, Layer] = {}
    learned: set[Node] = set()
    modules = dict(model.module.named_modules())

    def record(name: str, _args: Any, _kwargs: Any, output: Any) -> None:
        calls[name] = calls.get(name, -1) + 1
        tensor = first_tensor(output)
        if tensor is None or tensor.grad_fn is None:
            return
        if any(True for _ in modules[name].parameters(recurse=False)):
            learned.add(tensor.grad_fn)
        if (name, calls[name]) in wanted:
            places[tensor.grad_fn] = wanted[name, calls[name]]

    with (
        hooked(modules.items(), after=record),
        evaluation_mode(model.module),
        torch.enable_grad(),
        eager(),
    ):
        answer = model.read(model.run(image.requires_grad_()))
    return answer.grad_fn, places, learned


def _last(answer: Node, places: dict[Node, Layer], learned: set[Node]) -> set[Node]:
    """Return the first places with something learned behind that are met from the answer."""
    found: set[Node] = set()
    todo, seen = [(answer, False)], set()
    while todo:
        node, behind = todo.pop()
        if node is None or (node, behind) in seen:
            continue
        seen.add((node, behind))
        if behind and node in places:
            found.add(node)
            continue
        behind = behind or node in learned
        todo += [(before, behind) for before, _ in node.next_functions]
    return found


def _reaches(node: Node, others: set[Node]) -> bool:
    """Whether one of the other nodes lies before a node."""
    todo, seen = [before for before, _ in node.next_functions], set()
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        if one in others:
            return True
        seen.add(one)
        todo += [before for before, _ in one.next_functions]
    return False
