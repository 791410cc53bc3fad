"""Class-agnostic maps of one layer: its energy and its leading component."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Requirements
from cvx_core.recording import Layer


@dataclass(frozen=True)
class Energy(Explainer):
    """The energy of a layer, sum_k \\|A_k\\|^p (Zagoruyko and Komodakis 2017, arXiv:1612.03928).

    Independent of the class, and not negative.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass.
    power
        p, greater than 0; the paper compares 1, 2 and 4.

    Raises
    ------
    OptionError
        If `power` is out of its range.
    """

    layer: str = "auto"
    power: float = 2.0

    signed = False
    class_specific = False

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise OptionError(f"power must be finite and greater than 0, got {self.power!r}.")

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What a value counts."""
        return "squared activation" if self.power == 2 else f"|activation|^{self.power:g}"

    def requirements(self) -> Requirements:
        """Ask for the layer."""
        return Requirements(self.layer)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        activation = recording.activation(self.layer)
        # Half precision holds the activations, but not the sum of their squares.
        half = activation.dtype in (torch.float16, torch.bfloat16)
        values = (activation.float() if half else activation).abs().pow(self.power).sum(dim=1)
        one = Attribution(
            values,
            provenance={"mode": "energy", **named(recording.layer(self.layer))},
            unit=self.unit,
        )
        return [one for _ in request.seeds(recording.logits)]


@dataclass(frozen=True)
class EigenCAM(Explainer):
    """A layer's activations projected onto their leading direction (Muhammad 2020).

    A, (cells x channels), times its first right singular vector; arXiv:2008.00299. Independent of
    the class. The sign of a singular vector means nothing and is chosen so that the map sums to a
    positive value; after a ReLU no value is negative then.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass.
    centred
        Subtract each channel's mean over the cells first, which makes the direction that of the
        largest variance. The paper does not; some libraries do.
    """

    layer: str = "auto"
    centred: bool = False

    unit = "activation"
    class_specific = False

    def requirements(self) -> Requirements:
        """Ask for the layer."""
        return Requirements(self.layer)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        values, share = leading(recording.activation(self.layer), centred=self.centred)
        one = Attribution(
            values,
            evidence={"energy_share": share},
            provenance=named(recording.layer(self.layer)),
        )
        return [one for _ in request.seeds(recording.logits)]


def named(place: Layer) -> dict[str, Any]:
    """Return the layer as the provenance names it."""
    return {"layer": place.name, "layer_reason": place.reason}


def leading(activation: Tensor, *, centred: bool = False) -> tuple[Tensor, Tensor]:
    """Project a layer's cells onto the first right singular vector (Muhammad 2020).

    With A (cells x channels) = U S V^T the projection is A v_1 = s_1 u_1. Of the two products of A
    with itself the smaller one is decomposed, never A (arXiv:2008.00299).

    Parameters
    ----------
    activation
        (B, C, h, w).
    centred
        Subtract each channel's mean over the cells first.

    Returns
    -------
    torch.Tensor
        (B, h, w), with a sum that is not negative (of a centred map, whose sum is zero: with a
        largest absolute value that is positive).
    torch.Tensor
        (B,): the share s_1^2 / sum s_i^2, 0 where the activations are all zero.
    """
    cells = activation.detach().flatten(2).transpose(1, 2).double()
    if centred:
        cells = cells - cells.mean(dim=1, keepdim=True)
    by_cell = cells.shape[1] <= cells.shape[2]
    gram = cells @ cells.mT if by_cell else cells.mT @ cells
    squares, vectors = torch.linalg.eigh(gram)
    square, vector = squares[:, -1].clamp_min(0), vectors[:, :, -1]
    if by_cell:
        projected = square.sqrt()[:, None] * vector
    else:
        projected = (cells @ vector[:, :, None])[:, :, 0]
    largest = projected.gather(1, projected.abs().argmax(dim=1, keepdim=True))[:, 0]
    sign = (largest if centred else projected.sum(dim=1)).sign()
    values = torch.where(sign < 0, -1.0, 1.0)[:, None] * projected
    total = cells.square().sum(dim=(1, 2))
    share = torch.where(total > 0, square / total, 0.0)
    return values.reshape(-1, *activation.shape[2:]), share
