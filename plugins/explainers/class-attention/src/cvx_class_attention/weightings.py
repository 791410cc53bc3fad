"""How a layer's activations are weighted to make a class activation map.

Each function takes activations and gradients (B, C, h, w) and returns the signed map (B, h, w).
A further variant is a further function here and a line in `WEIGHTINGS`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Weighting = Callable[[Tensor, Tensor], Tensor]


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by their mean gradient (Selvaraju 2017, arXiv:1610.02391, eq. 1 and 2).

    The rectification of eq. 2 is left to whoever draws the map.
    """
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1)


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Activations weighted one by one by their gradient (Draelos 2020, arXiv:2011.08891)."""
    return (gradient * activation).sum(dim=1)


WEIGHTINGS: dict[str, Weighting] = {"grad-cam": grad_cam, "hires-cam": hires_cam}
