"""Excitation backprop, with and without contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cvx_activation_error.lrp.relevance import Relevance
from cvx_activation_error.lrp.rules import AlphaBeta
from cvx_activation_error.propagation import Propagated

_EXCITATION = AlphaBeta(1.0, 0.0, biased=False)


@dataclass(frozen=True)
class ExcitationBackprop(Propagated):
    """Which neurons win: the marginal winning probability (Zhang 2016, arXiv:1608.00507, eq. 8).

    P(a_i) = sum_j a_i w_ij+ / (sum_k a_k w_kj+) P(a_j), begun with the seed: one for a class.
    Biases excite nothing. Where activations are negative, as pixels are, contributions that are
    positive count, whatever the signs of their factors.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    """

    unit = "winning probability"

    contrastive: ClassVar[bool] = False

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_EXCITATION, _EXCITATION, start="seed", contrastive=self.contrastive)

    def total(self, seed: Tensor, logits: Tensor, baseline: Tensor | None) -> Tensor:
        """Return the sum of the seed."""
        del logits, baseline
        return seed.double().sum(1)


class ContrastiveExcitationBackprop(ExcitationBackprop):
    """Excitation backprop less that of the opposite class (Zhang 2016, sec. 3.3).

    The opposite has the weights of the last linear layer with their signs turned. Places that
    excite the class more than its opposite are positive.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    """

    contrastive = True

    def total(self, seed: Tensor, logits: Tensor, baseline: Tensor | None) -> Tensor:
        """Return zero: what the class gains its opposite loses."""
        return 0 * super().total(seed, logits, baseline)
