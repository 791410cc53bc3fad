"""Relevance of transformers, through attention or with attention frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from cvx_activation_error.lrp.relevance import Relevance
from cvx_activation_error.lrp.rules import Epsilon, Gamma, Rule
from cvx_activation_error.propagation import Propagated


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

    attention: ClassVar[Literal["held", "softmax"]] = "softmax"

    def rules(self) -> Relevance:
        """Return the rules of the backward pass."""
        convolution, linear = map(_gamma_or_epsilon, (self.convolution_gamma, self.gamma))
        return Relevance(convolution, linear, attention=self.attention)


@dataclass(frozen=True)
class CpLrp(AttnLrp):
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

    attention = "held"


def _gamma_or_epsilon(gamma: float) -> Rule:
    return Epsilon() if gamma == 0 else Gamma(gamma)
