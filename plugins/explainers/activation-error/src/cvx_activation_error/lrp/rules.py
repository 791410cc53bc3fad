"""Rules of linear layers and convolutions in layer-wise relevance propagation.

Of a layer y_j = sum_i x_i w_ij + b_j a rule says which share of y_j's relevance R_j each input
takes. Everywhere here R = a * g for an activation a and the modified gradient g, so that a rule is
a sum of linear maps of x, each with a slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from cvx_activation_error.lrp.linear import Parts, over
from cvx_core import OptionError

if TYPE_CHECKING:
    from cvx_core.models import VisionModel

Terms = tuple[list[Tensor], list[Tensor]]
"""Terms, linear in x, and the slope of each."""

_TINY = 1e-9


@dataclass(frozen=True)
class Epsilon:
    """R_i = x_i w_ij / (y_j + epsilon sign(y_j)) R_j (Bach 2015, eq. 58)."""

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise OptionError(f"epsilon must be 0 or more, got {self.epsilon!r}.")

    def terms(self, parts: Parts, y: Tensor) -> Terms:
        """Return the layer itself, damped where its answer is small."""
        return [parts.whole()], [over(y, y, self.epsilon)]


@dataclass(frozen=True)
class Gamma:
    """Weights of the prediction's sign count 1 + gamma times (Montavon 2019, sec. 10.2.3).

    The paper has activations that are never negative. With both signs, where y_j is positive
    the contributions x_i w_ij that are positive count more, where it is negative the negative ones
    (Andeol 2021, arXiv:2106.04923).
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise OptionError(f"gamma must be 0 or more, got {self.gamma!r}.")

    def terms(self, parts: Parts, y: Tensor) -> Terms:
        """Return two branches, one for each sign of the prediction."""
        bias, whole = parts.bias(), parts.whole()
        signed = [parts.signed(1), parts.signed(-1)]
        slopes = []
        for part, sign in zip(signed, (1, -1), strict=True):
            denominator = y + self.gamma * part.detach()
            if bias is not None:
                denominator = denominator + self.gamma * (sign * bias).clamp(min=0) * sign
            slopes.append(over(y * (sign * y > 0), denominator, _TINY))
        terms, of_signed = [whole, *signed], [self.gamma * slope for slope in slopes]
        slopes = [slopes[0] + slopes[1], *of_signed]
        return terms, slopes


@dataclass(frozen=True)
class AlphaBeta:
    """alpha times the share in the positive contributions less beta times that in the negative.

    alpha - beta = 1 (Bach 2015, eq. 60, where beta has the other sign). With alpha = 1 this is the
    z-plus rule (Montavon 2017, eq. 14).

    Parameters
    ----------
    bias
        Whether the bias takes its share too.
    """

    alpha: float = 2.0
    beta: float = 1.0
    biased: bool = True

    def __post_init__(self) -> None:
        if self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise OptionError(
                "alpha and beta must be 0 or more with alpha - beta = 1, got "
                f"alpha={self.alpha!r}, beta={self.beta!r}.",
            )

    def terms(self, parts: Parts, y: Tensor) -> Terms:
        """Return the positive contributions, and the negative ones where they count."""
        bias = parts.bias() if self.biased else None
        terms, slopes = [], []
        for weight, sign in ((self.alpha, 1), (-self.beta, -1)):
            if weight == 0:
                continue
            part = parts.signed(sign)
            whole = part.detach()
            if bias is not None:
                whole = whole + (sign * bias).clamp(min=0) * sign
            terms.append(part)
            slopes.append(weight * over(y, whole, _TINY))
        return terms, slopes


@dataclass(frozen=True)
class Flat:
    """Every input takes the same (Lapuschkin 2019, arXiv:1902.10178). For a first layer."""

    def sources(self, parts: Parts) -> tuple[Tensor, list[Tensor]]:
        """Return the sum over the inputs that a cell reads, and its only variable."""
        ones = parts.counted().requires_grad_()
        return parts.through(ones, torch.ones_like(parts.weight)), [ones]


@dataclass(frozen=True)
class ZBox:
    """Inputs take x_i w_ij - low_i w_ij+ - high_i w_ij- (Montavon 2017, eq. 16). For a first layer.

    Parameters
    ----------
    low, high
        Bounds of the input, one number or one for each channel; none at all stands for what the
        model's preprocessing makes of a black and a white image.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def of(self, model: VisionModel) -> ZBox:
        """Return the rule with its bounds.

        Raises
        ------
        OptionError
            If they are not given and the model has no preprocessing.
        """
        if self.low and self.high:
            return self
        if model.preprocess is None:
            raise OptionError(
                "The bounds of the input are unknown: the model has no preprocess.",
                "Give low=... and high=..., the least and the largest value of an input.",
            )
        ends = [
            torch.as_tensor(model.preprocess(Image.new("RGB", (256, 256), colour)))
            for colour in ("black", "white")
        ]
        low, high = (torch.minimum(*ends), torch.maximum(*ends))
        return ZBox(*(tuple(end.double().mean(dim=(1, 2)).tolist()) for end in (low, high)))

    def sources(self, parts: Parts) -> tuple[Tensor, list[Tensor]]:
        """Return the layer less the least that it could be, and the three inputs of that."""
        x, w = parts.x.detach().clone(), parts.weight
        low, high = (self._as(bound, x) for bound in (self.low, self.high))
        if parts.read is not None:
            # What is padded can have no other value than it has.
            low, high = (torch.where(parts.read, bound, x) for bound in (low, high))
        leaves = [leaf.requires_grad_() for leaf in (x, low, high)]
        up, down = w.clamp(min=0), w.clamp(max=0)
        least = parts.through(low, up) + parts.through(high, down)
        if parts.flipped is not None:
            # A normalisation that turns a channel's sign makes its most of its least.
            most = parts.through(low, down) + parts.through(high, up)
            least = torch.where(parts.flipped, most, least)
        return parts.through(x, w) - least, leaves

    @staticmethod
    def _as(bound: tuple[float, ...], x: Tensor) -> Tensor:
        values = torch.tensor(bound, dtype=x.dtype, device=x.device)
        if len(bound) > 1 and (x.ndim < 4 or x.shape[1] != len(bound)):
            raise OptionError(
                f"Got bounds for {len(bound)} channels, but the first layer has the input shape "
                f"{tuple(x.shape)}.",
                "Pass one number for all channels.",
            )
        return values.reshape(1, -1, *[1] * (x.ndim - 2)).expand_as(x).clone()


Rule = Epsilon | Gamma | AlphaBeta
FirstRule = Flat | ZBox
