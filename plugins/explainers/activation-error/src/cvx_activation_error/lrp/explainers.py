"""Layer-wise relevance propagation: single rules, and the published ways to combine them.

In all of them relevance begins with seed times logit; ReLU and its like pass it on, pooling and
residual sums share it in proportion, products halve it, and a batch normalisation is one layer
with the convolution before it. What the rules are is written in
`cvx_activation_error.lrp.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cvx_activation_error.lrp.relevance import Relevance
from cvx_activation_error.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox
from cvx_activation_error.propagation import Propagated
from cvx_core import OptionError

_PLUS = AlphaBeta(1.0, 0.0)
_BOTH = AlphaBeta(2.0, 1.0)


@dataclass(frozen=True)
class LrpEpsilon(Propagated):
    """The epsilon rule in every layer (Bach 2015, doi:10.1371/journal.pone.0130140, eq. 58).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon
        What dampens answers that are small, in units of the layer's answer.
    """

    epsilon: float = 1e-6

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(Epsilon(self.epsilon), Epsilon(self.epsilon))


@dataclass(frozen=True)
class LrpGamma(Propagated):
    """The gamma rule in every layer (Montavon 2019, doi:10.1007/978-3-030-28954-6_10).

    Inputs of both signs as in Andeol 2021, arXiv:2106.04923.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    gamma
        How much more contributions count that have the sign of the layer's answer.
    """

    gamma: float = 0.25

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(Gamma(self.gamma), Gamma(self.gamma))


@dataclass(frozen=True)
class LrpZPlus(Propagated):
    """The z-plus rule in every layer (Montavon 2017, doi:10.1016/j.patcog.2016.11.008).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    """

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_PLUS, _PLUS)


@dataclass(frozen=True)
class LrpAlphaBeta(Propagated):
    """The alpha-beta rule in every layer (Bach 2015, eq. 60).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    alpha, beta
        Weights of positive and negative contributions; alpha - beta = 1.
    """

    alpha: float = 2.0
    beta: float = 1.0

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        rule = AlphaBeta(float(self.alpha), float(self.beta))
        return Relevance(rule, rule)


@dataclass(frozen=True)
class LrpFlat(Propagated):
    """The flat rule in the first layer (Lapuschkin 2019, arXiv:1902.10178), epsilon above it.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels; at any other layer there is no first one, and this is
        `LrpEpsilon`.
    epsilon
        As in `LrpEpsilon`.
    """

    epsilon: float = 1e-6

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(Epsilon(self.epsilon), Epsilon(self.epsilon), Flat())


@dataclass(frozen=True)
class EpsilonPlus(Propagated):
    """z-plus in convolutions, epsilon in fully connected layers (Kohlbrenner 2020).

    arXiv:1910.09840.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon
        As in `LrpEpsilon`.
    """

    epsilon: float = 1e-6

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_PLUS, Epsilon(self.epsilon))


@dataclass(frozen=True)
class EpsilonPlusFlat(Propagated):
    """As `EpsilonPlus`, with the flat rule in the first layer.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon
        As in `LrpEpsilon`.
    """

    epsilon: float = 1e-6

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_PLUS, Epsilon(self.epsilon), Flat())


@dataclass(frozen=True)
class EpsilonAlpha2Beta1(Propagated):
    """alpha = 2, beta = 1 in convolutions, epsilon in fully connected layers (Kohlbrenner 2020).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon
        As in `LrpEpsilon`.
    """

    epsilon: float = 1e-6

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_BOTH, Epsilon(self.epsilon))


@dataclass(frozen=True)
class EpsilonAlpha2Beta1Flat(Propagated):
    """As `EpsilonAlpha2Beta1`, with the flat rule in the first layer.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon
        As in `LrpEpsilon`.
    """

    epsilon: float = 1e-6

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        return Relevance(_BOTH, Epsilon(self.epsilon), Flat())


@dataclass(frozen=True)
class EpsilonGammaBox(Propagated):
    """z-box in the first layer, gamma in convolutions, epsilon above them (Montavon 2019).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon, gamma
        As in `LrpEpsilon` and `LrpGamma`.
    low, high
        The least and the largest value of the network's input, one number or one for each channel;
        none takes those of a black and a white photograph from the model's preprocessing.

    Raises
    ------
    OptionError
        If they are not given, and the model has no preprocessing.
    """

    epsilon: float = 1e-6
    gamma: float = 0.25
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise OptionError("Only one bound of the input is given.", "Give both low and high.")
        self.rules()

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        first = ZBox(_numbers(self.low), _numbers(self.high))
        return Relevance(Gamma(self.gamma), Epsilon(self.epsilon), first)


def _numbers(bound: float | tuple[float, ...] | None) -> tuple[float, ...]:
    if bound is None:
        return ()
    return tuple(map(float, bound)) if isinstance(bound, tuple | list) else (float(bound),)
