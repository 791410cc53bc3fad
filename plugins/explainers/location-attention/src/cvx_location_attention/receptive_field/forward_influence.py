"""Forward influence: the positions of a layer that a patch of the image affects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, MethodError, OptionError, Requirements
from cvx_location_attention.layer_maps import named
from cvx_location_attention.receptive_field.positions import (
    Position,
    cell_at,
    position,
    unit_length,
)
from cvx_location_attention.receptive_field.second_order import Twice, push


@dataclass(frozen=True)
class Affects(Explainer):
    """How much each cell of a layer changes with a patch of the image: the length of J v.

    J is the Jacobian of the layer's activations with respect to the input, v the direction of
    the patch's own pixels: the counterpart of `Reads`, <w, J v> = <J^T w, v>. Independent of the
    class, and not negative. Exactly zero where the patch is out of sight.

    Parameters
    ----------
    query
        (x, y) in pixels of the image, the centre of the patch.
    side
        Side of the patch in pixels of the network's input; cut off at the border.
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass.

    Raises
    ------
    OptionError
        If there is no query, or `side` is no whole number of pixels.
    MethodError
        If the query lies outside of what the network sees, or the patch is exactly zero and so
        has no direction.
    """

    query: Position | None = None
    side: int = 16
    layer: str = "auto"

    signed = False
    unit = "activation per unit of input"
    class_specific = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", position(self.query))
        if not isinstance(self.side, int) or self.side < 1:
            raise OptionError(f"side must be a positive integer (pixels), got {self.side!r}.")

    def requirements(self) -> Requirements:
        """Ask for the layer and the input, in a form that can be pushed forward."""
        return Requirements(self.layer, "input", gates=Twice())

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        place = recording.layer(self.layer)
        pushed = push(recording, self._direction(request), at="input", to=self.layer)
        one = Attribution(place.positions(pushed).norm(dim=1), provenance=named(place))
        return [one for _ in request.seeds(recording.logits)]

    def _direction(self, request: ExplainRequest) -> Tensor:
        assert self.query is not None
        inputs = request.inputs
        vector = torch.zeros_like(inputs)
        height, width = inputs.shape[2:]
        for i in range(len(inputs)):
            row, column = cell_at(self.query, request, i, (height, width))
            rows, columns = (
                slice(max(0, at - self.side // 2), at - self.side // 2 + self.side)
                for at in (row, column)
            )
            vector[i, :, rows, columns] = inputs[i, :, rows, columns]
            if not vector[i].any():
                raise MethodError(
                    "The patch is exactly zero in the network's input, and so has no direction.",
                    "Choose another query, or a larger side.",
                )
        return unit_length(vector)
