"""Integrated gradients along the straight line from a reference to the input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    """Return the nodes and weights of the quadrature on [0, 1].

    It is exact for polynomials up to degree 2 * steps - 1, and needs far fewer steps than a Riemann
    sum for the same residual.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return [float(n) for n in (nodes + 1) / 2], [float(w) for w in weights / 2]


def integrate(
    inputs: Tensor, reference: Tensor, steps: int, gradient: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return (x - x') * integral of the gradient from x' to x, like `inputs`.

    Sundararajan 2017, arXiv:1703.01365, eq. 1. The sum over an image is S(x) - S(x') up to the
    quadrature's error.
    """
    nodes, weights = gauss_legendre(steps)
    total = torch.zeros_like(inputs)
    for node, weight in zip(nodes, weights, strict=True):
        total += weight * gradient(reference + node * (inputs - reference))
    return (inputs - reference) * total
