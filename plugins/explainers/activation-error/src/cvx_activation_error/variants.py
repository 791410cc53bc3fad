"""Excitation backprop, relevance through attention, and DeepLIFT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cvx_activation_error.deep_lift.propagation import Rescale
from cvx_activation_error.lrp.relevance import Relevance
from cvx_activation_error.lrp.rules import AlphaBeta, Epsilon, Gamma, Rule
from cvx_activation_error.propagation import Propagated
from cvx_core import OptionError

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

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_EXCITATION, _EXCITATION, start="seed")

    def total(self, seed: Tensor, logits: Tensor, reference: Tensor | None) -> Tensor:
        """Return the sum of the seed."""
        del logits, reference
        return seed.double().sum(1)


@dataclass(frozen=True)
class ContrastiveExcitationBackprop(Propagated):
    """Excitation backprop less that of the opposite class (Zhang 2016, sec. 3.3).

    The opposite has the weights of the last linear layer with their signs turned. Places that
    excite the class more than its opposite are positive.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    """

    unit = "winning probability"

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_EXCITATION, _EXCITATION, start="seed", contrastive=True)

    def total(self, seed: Tensor, logits: Tensor, reference: Tensor | None) -> Tensor:
        """Return zero: what the class gains its opposite loses."""
        del logits, reference
        return 0 * seed.double().sum(1)


@dataclass(frozen=True)
class AttnLrp(Propagated):
    """Relevance through attention, softmax and all (AttnLRP; Achtibat 2024, arXiv:2402.05602).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    gamma
        Of the gamma rule in fully connected layers, which makes maps of vision transformers less
        noisy; 0 is the epsilon rule.
    convolution_gamma
        The same in convolutions, such as the one that makes tokens of patches.
    """

    gamma: float = 0.05
    convolution_gamma: float = 0.25

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(
            _gamma_or_epsilon(self.convolution_gamma),
            _gamma_or_epsilon(self.gamma),
            attention="softmax",
        )


@dataclass(frozen=True)
class CpLrp(Propagated):
    """Relevance through values alone, attention held (CP-LRP; Ali 2022, arXiv:2202.07304).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    gamma, convolution_gamma
        As in `AttnLrp`; the paper has the epsilon rule.
    """

    gamma: float = 0.0
    convolution_gamma: float = 0.0

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_gamma_or_epsilon(self.convolution_gamma), _gamma_or_epsilon(self.gamma))


@dataclass(frozen=True)
class DeepLift(Propagated):
    """DeepLIFT with the rescale rule (Shrikumar 2017, arXiv:1704.02685).

    The map sums to S(x) - S(x0) for a reference x0 in a network of linear layers, functions of one
    element, products, quotients, norms, maxima, softmax, attention and normalisation, however they
    are put together. Sorting, comparisons, recurrent layers and functions that have a derivative of
    their own making keep it, and their part may be missing: `residual` tells how much.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    reference
        x0: ``"zero"``, ``"mean"`` or ``"blur"``, see `cvx_core.images.baselines`.

    Raises
    ------
    OptionError
        If there is no such reference.
    """

    reference: str = "zero"

    conserves: ClassVar[bool] = True

    def rules(self) -> Rescale:
        """Return the rules of the backward pass."""
        return Rescale(self.reference)

    def total(self, seed: Tensor, logits: Tensor, reference: Tensor | None) -> Tensor:
        """Return the difference of the seeded outputs of image and reference."""
        assert reference is not None
        return (seed * (logits - reference)).double().sum(1)


def _gamma_or_epsilon(gamma: float) -> Rule:
    if not gamma >= 0:
        raise OptionError(f"gamma is {gamma}.", "It is 0 or more.")
    return Gamma(gamma) if gamma > 0 else Epsilon()
