"""Weightings of a layer's activations in class activation maps.

Each function takes activations A and gradients g = dS/dA, both (B, C, h, w), S being the seeded
score, and returns the map (B, h, w). A further variant is a further function here and a line in
`WEIGHTINGS`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Weighting = Callable[[Tensor, Tensor], Tensor]


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by their mean gradient (Selvaraju 2017, arXiv:1610.02391, eq. 1 and 2).

    The rectification of eq. 2 is left to renderers.
    """
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1)


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Activations weighted one by one by their gradient (Draelos 2020, arXiv:2011.08891)."""
    return (gradient * activation).sum(dim=1)


def xgrad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by their activation-weighted mean gradient (Fu 2020, arXiv:2008.02312).

    w_k = sum_u A_k(u) g_k(u) / sum_u A_k(u), so that the map sums to what gradient times
    activation sums to. A channel whose activations sum to zero has no such mean and no weight.
    """
    total = activation.sum(dim=(2, 3), keepdim=True)
    product = (activation * gradient).sum(dim=(2, 3), keepdim=True)
    return (_quotient(product, total) * activation).sum(dim=1)


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhyay 2018, arXiv:1710.11063: positions of a channel share its weight by alpha.

    The paper's score of the class is Y = exp(S). Where S is piecewise linear in A, as in a ReLU
    network, the first three derivatives of Y are Y g, Y g^2 and Y g^3, and alpha is (eq. 19)

        alpha(u) = g(u)^2 / (2 g(u)^2 + sum_v A(v) g(u)^3).

    Nothing in this asks S to be a single logit: for any seed s it holds of S = <s, z> with
    g = dS/dA, s being constant. The weight is w_k = sum_u alpha(u) max(Y g(u), 0), of which the
    factor Y > 0, one number for the whole map, is left out: it is the exponential of a logit and
    overflows. The map is max(sum_k w_k A_k, 0).
    """
    total = activation.sum(dim=(2, 3), keepdim=True)
    # alpha with both of its sides divided by g^2, which underflows long before g does
    share = _quotient(torch.ones_like(gradient), 2 + total * gradient)
    weights = (share * gradient.clamp_min(0)).sum(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1).clamp_min(0)


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Activations weighted one by one by their positive gradient (Jiang 2021).

    LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE Transactions on
    Image Processing 30, doi:10.1109/TIP.2021.3089943. Rectified, as in the paper.
    """
    return (gradient.clamp_min(0) * activation).sum(dim=1).clamp_min(0)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, torch.zeros_like(a * b), a / torch.where(b == 0, 1, b))


WEIGHTINGS: dict[str, Weighting] = {
    "grad-cam": grad_cam,
    "hires-cam": hires_cam,
    "xgrad-cam": xgrad_cam,
    "grad-cam-plus-plus": grad_cam_plus_plus,
    "layer-cam": layer_cam,
}

RECTIFIED = {"grad-cam-plus-plus", "layer-cam"}
"""Weightings that rectify, so that the map has no meaningful sign."""
