"""Location-based attention: where the model looks at all, and what one position reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, MethodError, Needs, OptionError, Question, Recording
from cvx_core.recording import Place
from cvx_location_attention.maps import energy, rollout
from cvx_location_attention.reading import tokens_read

_MODES = ("auto", "energy", "rollout", "reads")


@dataclass(frozen=True)
class LocationAttention(Explainer):
    """Where the model looks, whatever the class.

    Values are not negative. Without a query: for transformers with global attention the attention
    rollout of the class token (or the mean over the tokens that the answer reads), in shares of
    1; for other networks the energy of a layer, sum_k \\|A_k\\|^p. With a query: what that
    position of the layer reads from the image.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last grid that everything passes.
    mode
        ``"energy"`` (Zagoruyko and Komodakis 2017, arXiv:1612.03928), ``"rollout"`` (Abnar and
        Zuidema 2020, arXiv:2005.00928), ``"reads"`` (with `query`), or ``"auto"``.
    power
        p of the energy, greater than 0.
    query
        (x, y) in pixels of the photograph: the cell of the layer there is asked what it reads.
        The map is the length of d<v, A_q>/dx over the input's channels, v being the direction of
        the cell's own activation A_q (or one channel, see `channel`): exactly zero outside the
        receptive field.
    channel
        Channel of the layer that the query follows instead of the activation's direction.

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    MethodError
        If rollout is asked of a network without global attention, or the query lies outside of
        what the network sees.
    """

    layer: str = "auto"
    mode: str = "auto"
    power: float = 2.0
    query: tuple[float, float] | None = None
    channel: int | None = None

    signed = False
    class_specific = False

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise OptionError(f"There is no mode {self.mode!r}.", "There are " + ", ".join(_MODES))
        if not 0 < self.power < math.inf:
            raise OptionError(f"power is {self.power}.", "It must be finite and greater than 0.")
        if self.query is not None:
            if len(self.query) != 2:
                raise OptionError(f"query is {self.query}.", "Write query=(x,y), in pixels.")
            object.__setattr__(self, "query", (float(self.query[0]), float(self.query[1])))
        if self.channel is not None and (not isinstance(self.channel, int) or self.query is None):
            raise OptionError(
                f"channel is {self.channel} and query {self.query}.",
                "A channel is a whole number, and goes with query=(x,y).",
            )
        if (self.query is not None) != (self.mode == "reads") and self.mode != "auto":
            raise OptionError(
                f"mode={self.mode!r} does not go with query={self.query}.",
                "mode='reads' takes a query=(x,y); the others take none.",
            )

    def needs(self) -> Needs:
        """Ask for the layer, the attention probabilities, or the input."""
        if self.query is not None:
            return Needs(self.layer, "input")
        return Needs(self.layer, attention=self.mode != "energy")

    def attribute(self, question: Question) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        recording = question.recording(self.needs())
        place = recording.place(self.layer)
        if self.query is not None:
            one = self._reads(question, recording, place)
        elif self.mode == "energy":
            one = self._energy(recording, place)
        else:
            one = self._rollout_or_energy(recording, place)
        return [one for _ in question.seeds(recording.logits)]

    def _energy(self, recording: Recording, place: Place) -> Attribution:
        return Attribution(
            energy(recording.activation(self.layer), self.power),
            provenance={"mode": "energy", **_named(place)},
            unit="squared activation" if self.power == 2 else f"|activation|^{self.power:g}",
        )

    def _rollout_or_energy(self, recording: Recording, place: Place) -> Attribution:
        length = place.prefix + place.grid[0] * place.grid[1]
        batch = recording.logits.shape[0]
        layers = [
            a.reshape(batch, -1, length, length)
            for a in recording.attention()
            if a.ndim in (3, 4) and a.shape[0] == batch and a.shape[-1] == a.shape[-2] == length
        ]
        if place.kind != "tokens" or not layers:
            if self.mode == "auto":
                return self._energy(recording, place)
            raise MethodError(
                f"{recording.model.name} has no layer in which all tokens attend to all "
                "others, so attention can't be rolled out.",
                "Use mode=energy, or query=(x,y) for what one position reads.",
            )
        joint = rollout([layer.double() for layer in layers])
        read = tokens_read(recording, place)
        row = joint[:, read.to(joint.device)].mean(dim=1)
        cells = row[:, place.prefix :].reshape(batch, *place.grid)
        return Attribution(
            cells,
            evidence={"other_tokens_share": row[:, : place.prefix].sum(1), "row_sum": row.sum(1)},
            provenance={
                "mode": "rollout",
                "layer": f"{len(layers)} attention layers",
                "layer_reason": "all layers in which every token attends to every other",
                "query_token": _named_tokens(read),
            },
            unit="share of attention",
        )

    def _reads(self, question: Question, recording: Recording, place: Place) -> Attribution:
        cells = recording.activation(self.layer)
        vector = torch.zeros_like(cells)
        rows, columns = [], []
        for i in range(len(cells)):
            row, column = self._cell(question, i, place)
            rows.append(row)
            columns.append(column)
            if self.channel is None:
                own = cells[i, :, row, column]
                vector[i, :, row, column] = own / own.norm().clamp_min(torch.finfo(own.dtype).tiny)
            elif not 0 <= self.channel < cells.shape[1]:
                raise OptionError(
                    f"The layer {place.name!r} has no channel {self.channel}.",
                    f"Channels go from 0 to {cells.shape[1] - 1}.",
                )
            else:
                vector[i, self.channel, row, column] = 1.0
        gradient = recording.pull(
            _as_recorded(vector, place, recording, self.layer), at=self.layer, to="input"
        )
        return Attribution(
            gradient.norm(dim=1),
            provenance={
                "mode": "reads",
                "query_row": torch.tensor(rows),
                "query_column": torch.tensor(columns),
                **_named(place),
            },
            unit="activation per unit of input",
        )

    def _cell(self, question: Question, i: int, place: Place) -> tuple[int, int]:
        assert self.query is not None
        left, top, right, bottom = question.extents[i]
        x = (self.query[0] - left) / (right - left)
        y = (self.query[1] - top) / (bottom - top)
        if not (0 <= x < 1 and 0 <= y < 1):
            raise MethodError(
                f"The query {self.query} lies outside of what the network sees of the photograph.",
                f"It sees x from {left:.0f} to {right:.0f} and y from {top:.0f} to {bottom:.0f}.",
            )
        h, w = place.grid
        return int(y * h), int(x * w)


def _named(place: Place) -> dict[str, Any]:
    return {"layer": place.name, "layer_reason": place.reason}


def _named_tokens(read: Tensor) -> str:
    count = int(read.sum())
    if count == len(read):
        return "mean of all tokens"
    if count == 1 and bool(read[0]):
        return "class token"
    return f"mean of the {count} tokens that the answer reads, of {len(read)}"


def _as_recorded(vector: Tensor, place: Place, recording: Recording, layer: str) -> Tensor:
    """Lay (B, C, h, w) out as the layer's own tensor, with zeros for tokens outside the grid."""
    full = torch.zeros_like(recording.raw(layer))
    place.cells(full).copy_(vector)
    return full
