"""Layer-wise relevance propagation: single rules, and the published composites of them.

Relevance begins with seed times logit. ReLU and similar functions pass it on, pooling and residual
sums share it in proportion, products halve it, and a batch normalisation forms one layer with the
convolution before it. The rules themselves are in `cvx_activation_error.lrp.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cvx_activation_error.lrp.relevance import Relevance
from cvx_activation_error.lrp.rules import AlphaBeta, Epsilon, FirstRule, Flat, Gamma, Rule, ZBox
from cvx_activation_error.propagation import Propagated
from cvx_core import OptionError

_PLUS = AlphaBeta(1.0, 0.0)
_BOTH = AlphaBeta(2.0, 1.0)


@dataclass(frozen=True)
class LrpEpsilon(Propagated):
    """The epsilon rule in every layer (Bach 2015, doi:10.1371/journal.pone.0130140, eq. 58).

    The composites below replace it in convolutions, in the first layer, or in both.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon
        Stabiliser of outputs near zero, in units of the layer's output.
    """

    epsilon: float = 1e-6

    convolution: ClassVar[Rule | None] = None
    """Rule of convolutions; None is the epsilon rule."""

    first: ClassVar[FirstRule | None] = None
    """Rule of the first layer, where relevance is propagated to the input."""

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        linear = Epsilon(self.epsilon)
        return Relevance(self.convolution or linear, linear, self.first)


class LrpFlat(LrpEpsilon):
    """The flat rule in the first layer (Lapuschkin 2019, arXiv:1902.10178), epsilon above it.

    At a layer other than ``"input"`` this is `LrpEpsilon`.
    """

    first = Flat()


class EpsilonPlus(LrpEpsilon):
    """z-plus in convolutions, epsilon in linear layers (Kohlbrenner 2020, arXiv:1910.09840)."""

    convolution = _PLUS


class EpsilonPlusFlat(EpsilonPlus):
    """As `EpsilonPlus`, with the flat rule in the first layer."""

    first = Flat()


class EpsilonAlpha2Beta1(LrpEpsilon):
    """alpha = 2, beta = 1 in convolutions, epsilon in linear layers (Kohlbrenner 2020)."""

    convolution = _BOTH


class EpsilonAlpha2Beta1Flat(EpsilonAlpha2Beta1):
    """As `EpsilonAlpha2Beta1`, with the flat rule in the first layer."""

    first = Flat()


@dataclass(frozen=True)
class LrpGamma(Propagated):
    """The gamma rule in every layer (Montavon 2019, doi:10.1007/978-3-030-28954-6_10).

    Inputs of both signs as in Andeol 2021, arXiv:2106.04923.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    gamma
        Additional weight of contributions that have the sign of the layer's output.
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
class EpsilonGammaBox(Propagated):
    """z-box in the first layer, gamma in convolutions, epsilon above them (Montavon 2019).

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    epsilon, gamma
        As in `LrpEpsilon` and `LrpGamma`.
    low, high
        Least and largest value of the network's input, one number or one for each channel; None
        preprocesses a black and a white image.

    Raises
    ------
    OptionError
        If they are None and the model has no preprocessing.
    """

    epsilon: float = 1e-6
    gamma: float = 0.25
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise OptionError("low and high must be given together.")
        self.rules()

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        first = ZBox(_numbers(self.low), _numbers(self.high))
        return Relevance(Gamma(self.gamma), Epsilon(self.epsilon), first)


def _numbers(bound: float | tuple[float, ...] | None) -> tuple[float, ...]:
    if bound is None:
        return ()
    return tuple(map(float, bound)) if isinstance(bound, tuple | list) else (float(bound),)
