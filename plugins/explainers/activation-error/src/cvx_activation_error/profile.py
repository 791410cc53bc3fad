"""Layer profile: what each layer's positions carry of a score, from pixels to prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_core import ExplainRequest, OptionError, Requirements, VisionModel
from cvx_core.recording import Layer, Layout, constant_part, find_last_grid, find_trunk

if TYPE_CHECKING:
    from cvx_core import Explanation

MOST_LAYERS = 12
"""Of those that are chosen when none are named, the pixels among them."""


@dataclass(frozen=True)
class LayerBalance:
    """How a score is made up at one layer, in logits: total = cells + other_tokens + constant_part.

    Attributes
    ----------
    layer, grid
        The layer's name, and (h, w) of its cells.
    total
        The score.
    cells
        Sum of the layer's map.
    other_tokens
        What class, distillation and register tokens carry.
    constant_part
        What biases and other constants behind the layer add, and paths that bypass it.
    non_pixel_share
        Share carried by no position, 0 to 1.
    cells_for, cells_against
        Where the target sets one class against another, the sum over positions for either: the
        predicted and the true class, for a margin. ``cells`` is their difference. None otherwise.
    """

    layer: str
    grid: tuple[int, int]
    total: float
    cells: float
    other_tokens: float
    constant_part: float
    non_pixel_share: float
    cells_for: float | None = None
    cells_against: float | None = None


@dataclass(frozen=True)
class LayerProfile:
    """The balance of every layer, in the order of the forward pass.

    Attributes
    ----------
    target
        The target, as in ``why power drill and not screwdriver?``.
    rows
        One for each layer.
    residual
        At the first layer the constant part was also measured, by a replay of the frozen gates at
        zero: the gap over the largest part. The other layers' constants are what is left over.
        None where the explainer was told not to verify.
    """

    target: str
    rows: tuple[LayerBalance, ...]
    residual: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        rows = [{**asdict(row), "grid": list(row.grid)} for row in self.rows]
        return {"target": self.target, "residual": self.residual, "rows": rows}

    @classmethod
    def of(cls, explanation: Explanation) -> LayerProfile:
        """Return the profile in an explanation's evidence.

        Raises
        ------
        OptionError
            If it has none.
        """
        evidence = explanation.evidence.to_dict()
        if "layer_profile" not in evidence:
            raise OptionError("The explanation has no layer profile.", "Explain with profile=True.")
        rows = [
            LayerBalance(**{**row, "grid": tuple(row["grid"])}) for row in evidence["layer_profile"]
        ]
        return cls(explanation.target.text, tuple(rows), evidence.get("layer_profile_residual"))


def profiles(
    request: ExplainRequest, seeds: Sequence[Tensor], names: Sequence[str], *, verify: bool
) -> list[dict[str, Any]]:
    """Return the evidence of each seed, from one forward pass for all layers.

    One backward pass for a seed, and one more where it sets two classes against each other; to
    verify takes a replay at the first layer.
    """
    model, inputs = request.model, request.inputs
    places = [request.layout.find(name) for name in names] or by_stage(model, inputs)
    places = _in_order(request.layout, places)
    names = [place.name for place in places]
    recording = request.recording(Requirements(*names, gates="frozen", tape=verify))
    logits = recording.logits.detach()
    constant = constant_part(recording, names[0]) if verify else None
    found = []
    for seed, against in zip(seeds, _two_classes(request, logits), strict=True):
        sums = _sums(recording.gradients(seed, *names, missing="zero"), recording, places)
        for_one = None
        if against.any():
            first = seed.clamp_min(0)
            for_one = _sums(recording.gradients(first, *names, missing="zero"), recording, places)
        total = (seed * logits).double().sum(1)
        rows = []
        for k, place in enumerate(places):
            cells, others = sums[k]
            rest = total - cells - others
            elsewhere = others.abs() + rest.abs()
            row: dict[str, Any] = {
                "layer": place.name,
                "grid": list(place.grid),
                "total": total,
                "cells": cells,
                "other_tokens": others,
                "constant_part": rest,
                "non_pixel_share": elsewhere / (elsewhere + cells.abs()).clamp_min(1e-300),
            }
            if for_one is not None:
                none = torch.full_like(cells, torch.nan)
                row["cells_for"] = torch.where(against, for_one[k][0], none)
                row["cells_against"] = torch.where(against, for_one[k][0] - cells, none)
            rows.append(row)
        evidence: dict[str, Any] = {"layer_profile": rows}
        if constant is not None:
            measured = (seed * constant).double().sum(1)
            gap = (rows[0]["constant_part"] - measured).abs()
            carried = sums[0][0] + sums[0][1]
            largest = torch.stack([total, carried, measured]).abs().amax(0)
            evidence["layer_profile_residual"] = gap / largest.clamp_min(1e-300)
        found.append(evidence)
    return found


def by_stage(model: VisionModel, inputs: Tensor) -> list[Layer]:
    """Return the input and layers that all paths pass, as many from each grid size."""
    layout = Layout.of(model, inputs)
    trunk = find_trunk(model, inputs) or (find_last_grid(model, inputs),)
    stages = [list(stage) for _, stage in groupby(trunk, key=lambda place: place.grid)]
    # Of more stages than rows, those near the prediction.
    stages = stages[1 - MOST_LAYERS :]
    each = (MOST_LAYERS - 1) // len(stages)
    return [layout.input, *(place for stage in stages for place in _outermost(stage, each))]


def _outermost(stage: list[Layer], most: int) -> list[Layer]:
    """Return the places of a stage that lie least deep in the network's modules, in order.

    Stages and blocks before what is inside them; where there are too many of one depth, some at
    even distances, the last among them.
    """
    chosen: set[int] = set()
    for depth in range(max(place.name.count(".") for place in stage) + 1):
        level = [k for k, place in enumerate(stage) if place.name.count(".") == depth]
        count = min(most - len(chosen), len(level))
        chosen.update(level[len(level) * (k + 1) // count - 1] for k in range(count))
    return [stage[k] for k in sorted(chosen)]


def _in_order(layout: Layout, places: Sequence[Layer]) -> list[Layer]:
    """Return places in the order of the forward pass, each once."""
    order = {place.name: number for number, place in enumerate(layout.layers)}
    by_name = {place.name: place for place in places}
    return sorted(by_name.values(), key=lambda place: order.get(place.name, -1))


def _two_classes(request: ExplainRequest, logits: Tensor) -> list[Tensor]:
    """Return for each seed which images' questions set one class against another, (B,)."""
    records = request.records(logits)
    return [
        torch.tensor(
            [k < len(several) and several[k].signs == (1.0, -1.0) for several in records],
            device=logits.device,
        )
        for k in range(max(map(len, records)))
    ]


def _sums(
    gradients: Sequence[Tensor], recording: Any, places: Sequence[Layer]
) -> list[tuple[Tensor, Tensor]]:
    """Return what the cells and what the other tokens of each place carry, both (B,)."""
    found = []
    for place, gradient in zip(places, gradients, strict=True):
        product = (recording.raw(place.name) * gradient).double()
        cells = place.positions(product).sum(dim=(1, 2, 3))
        found.append((cells, place.other_tokens(product).sum(dim=(1, 2))))
    return found
