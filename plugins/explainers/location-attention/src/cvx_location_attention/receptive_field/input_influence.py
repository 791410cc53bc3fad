"""Input influence: what one position of a layer reads from the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Recording, Requirements
from cvx_core.recording import Layer
from cvx_location_attention.layer_maps import named
from cvx_location_attention.receptive_field.positions import (
    Position,
    as_recorded,
    cell_at,
    position,
    unit_length,
)


@dataclass(frozen=True)
class Reads(Explainer):
    """What a cell of a layer reads: the length of d<v, A_q>/dx over the input's channels.

    v is the direction of the cell's own activation A_q, or one channel. Exactly zero outside the
    receptive field; independent of the class, and not negative.

    Parameters
    ----------
    query
        (x, y) in pixels of the image, which lies in the cell that is asked.
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass.
    channel
        Channel of the layer that is followed instead of the activation's direction.

    Raises
    ------
    OptionError
        If there is no query, or the layer has no such channel.
    MethodError
        If the query lies outside of what the network sees.
    """

    query: Position | None = None
    layer: str = "auto"
    channel: int | None = None

    signed = False
    unit = "activation per unit of input"
    class_specific = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", position(self.query))
        if self.channel is not None and not isinstance(self.channel, int):
            raise OptionError(f"channel must be an integer, got {self.channel!r}.")

    def requirements(self) -> Requirements:
        """Ask for the layer and the input."""
        return Requirements(self.layer, "input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, H, W)."""
        recording = request.recording(self.requirements())
        place = recording.layer(self.layer)
        assert self.query is not None
        where = [cell_at(self.query, request, i, place.grid) for i in range(len(request.inputs))]
        gradient = recording.pull(
            self._direction(recording, place, where), at=self.layer, to="input"
        )
        one = Attribution(
            gradient.norm(dim=1),
            provenance={
                "mode": "reads",
                "query_row": torch.tensor([row for row, _ in where]),
                "query_column": torch.tensor([column for _, column in where]),
                **named(place),
            },
            unit=self.unit,
        )
        return [one for _ in request.seeds(recording.logits)]

    def _direction(
        self, recording: Recording, place: Layer, where: list[tuple[int, int]]
    ) -> torch.Tensor:
        cells = recording.activation(self.layer)
        vector = torch.zeros_like(cells)
        if self.channel is not None and not 0 <= self.channel < cells.shape[1]:
            raise OptionError(
                f"channel must be from 0 to {cells.shape[1] - 1} in the layer {place.name!r}, "
                f"got {self.channel}.",
            )
        for i, (row, column) in enumerate(where):
            if self.channel is None:
                vector[i, :, row, column] = cells[i, :, row, column]
            else:
                vector[i, self.channel, row, column] = 1.0
        return as_recorded(unit_length(vector), place, recording, self.layer)
