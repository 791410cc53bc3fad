"""Means and covariances of scores and masks that come piece by piece, and their errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Moments:
    """Sums of f^a M^b over draws, for scores f (n, K) and masks M (n, cells).

    From them come the mean of f M and the covariance of f and M with their standard errors,
    without any mask being kept.
    """

    count: int = 0
    _sums: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def add(self, scores: Tensor, masks: Tensor) -> None:
        """Take a few more draws into account, in double precision."""
        self.count += len(scores)
        f, m = scores.double(), masks.double()
        powers_f, powers_m = [torch.ones_like(f), f, f * f], [torch.ones_like(m), m, m * m]
        for a in range(3):
            for b in range(3):
                # What is a power of the one alone needs no product of both.
                if b == 0:
                    term = powers_f[a].sum(dim=0)[:, None]
                elif a == 0:
                    term = powers_m[b].sum(dim=0)[None]
                else:
                    term = powers_f[a].mT @ powers_m[b]
                self._sums[a, b] = self._sums.get((a, b), 0) + term

    def _mean(self, a: int, b: int) -> Tensor:
        return self._sums[a, b] / self.count

    def mean(self) -> Tensor:
        """Return the mean of f, (K,)."""
        return self._mean(1, 0)[:, 0]

    def product(self) -> tuple[Tensor, Tensor]:
        """Return the mean of f M and its standard error, both (K, cells)."""
        mean = self._mean(1, 1)
        variance = (self._mean(2, 2) - mean.square()).clamp_min(0)
        return mean, (variance / (self.count - 1)).sqrt()

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Return the covariance of f and M and its standard error, both (K, cells).

        The error is that of the mean of (f - mean f)(M - mean M), to first order in 1 / count.
        """
        f, m, e = self._mean(1, 0), self._mean(0, 1), self._mean
        covariance = e(1, 1) - f * m
        fourth = (
            e(2, 2)
            - 2 * f * e(1, 2)
            + f.square() * e(0, 2)
            - 2 * m * (e(2, 1) - 2 * f * e(1, 1) + f.square() * m)
            + m.square() * (e(2, 0) - f.square())
        )
        variance = (fourth - covariance.square()).clamp_min(0)
        scale = self.count / (self.count - 1)
        return covariance * scale, (variance / (self.count - 1)).sqrt()
