"""Explainers made of explainers.

Explainers are values: what is built here is an explainer like any other, and its provenance shows
what it is made of. Parts that run together share their forward passes.

    mean(a, b)            the average of maps
    product(a, b)         the product of maps, position by position
    contrast(a, p, q)     a for the target p rather than q
    smooth(a, n, sigma)   the average over noisy copies of the input (SmoothGrad)
    layers(a, [...])      the average over layers
    a | rectify           a map passed through a function
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import torch

from cvx_core.errors import OptionError
from cvx_core.explainers.base import Composite, Explainer
from cvx_core.explainers.method import Attribution
from cvx_core.explainers.pyramid import enlarge
from cvx_core.explainers.request import ExplainRequest
from cvx_core.tasks.classes import ClassRef
from cvx_core.tasks.targets import Contrast, Target


@dataclass(frozen=True)
class Combination(Composite):
    """Several explainers, combined position by position; made by `mean` and `product`."""

    explainers: tuple[Explainer, ...]
    how: str

    @property
    def operation(self) -> str:
        """Mean or product."""
        return self.how

    def parts(self) -> Sequence[Explainer]:
        """Return the explainers."""
        return self.explainers

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the combined maps, on the finest grid among them."""
        several = [part.attribute(request) for part in self.explainers]
        found = []
        for ones in zip(*several, strict=True):
            shape = max((one.values.shape[1:] for one in ones), key=lambda s: s[0] * s[1])
            maps = torch.stack([enlarge(one.values, (shape[0], shape[1])) for one in ones])
            values = maps.mean(0) if self.how == "mean" else maps.prod(0)
            found.append(Attribution(values, {}, {"parts": [dict(one.provenance) for one in ones]}))
        return found


@dataclass(frozen=True)
class Contrasted(Composite):
    """An explainer whose default target is the contrast of `p` and `q`."""

    explainer: Explainer
    p: ClassRef
    q: ClassRef

    @property
    def default_target(self) -> Target:  # type: ignore[override]
        """The contrast of the two classes."""
        return Contrast(self.p, self.q)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the explainer's attributions."""
        return self.explainer.attribute(request)


@dataclass(frozen=True)
class Smooth(Composite):
    """The average over noisy copies of the input (Smilkov 2017, arXiv:1706.03825).

    The seed is that of the clean image, so that all copies have the same target.
    """

    explainer: Explainer
    n: int
    sigma: float

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or self.n < 2:
            raise OptionError(f"n must be an integer of at least 2, got {self.n!r}.")
        if not self.sigma > 0:
            raise OptionError(f"sigma must be greater than 0, got {self.sigma!r}.")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return mean maps with their standard error, averaged over the positions."""
        recording = request.recording(self.explainer.recordings()[0])
        request.seeds(recording.logits)
        inputs = request.inputs
        span = inputs.amax(dim=(1, 2, 3), keepdim=True) - inputs.amin(dim=(1, 2, 3), keepdim=True)
        generator = request.generator()
        runs: list[list[Attribution]] = []
        for _ in range(self.n):
            noise = torch.randn(inputs.shape[1:], generator=generator).to(inputs)
            with request.with_inputs(inputs + self.sigma * span * noise) as noisy:
                runs.append(self.explainer.attribute(noisy))
        found = []
        for ones in zip(*runs, strict=True):
            maps = torch.stack([one.values for one in ones])
            error = maps.std(dim=0) / self.n**0.5
            evidence = {"standard_error": error.mean(dim=(1, 2)), "copies": self.n}
            found.append(Attribution(maps.mean(0), evidence, ones[0].provenance))
        return found


def mean(*explainers: Explainer) -> Combination:
    """Return an explainer whose map is the average of the maps.

    Coarser maps are brought to the finest grid, each keeping its sum.
    """
    return Combination(_two_or_more(explainers), "mean")


def product(*explainers: Explainer) -> Combination:
    """Return an explainer whose map is the product of the maps, position by position."""
    return Combination(_two_or_more(explainers), "product")


def contrast(explainer: Explainer, p: ClassRef, q: ClassRef) -> Contrasted:
    """Return an explainer whose default target is class `p` rather than class `q`."""
    return Contrasted(explainer, p, q)


def smooth(explainer: Explainer, n: int = 16, sigma: float = 0.1) -> Smooth:
    """Return an explainer averaged over `n` noisy inputs.

    Parameters
    ----------
    sigma
        Standard deviation of the noise, in shares of the input's range.
    """
    return Smooth(explainer, n, sigma)


def layers(explainer: Explainer, names: Sequence[str]) -> Combination:
    """Return an explainer averaged over several layers.

    Raises
    ------
    OptionError
        If the explainer takes no layer, or fewer than two are named.
    """
    if not is_dataclass(explainer) or "layer" not in {f.name for f in fields(explainer)}:
        raise OptionError(
            f"{explainer.name} takes no layer.", "Pass an explainer with a parameter 'layer'."
        )
    several = tuple(replace(explainer, layer=name) for name in names)
    for one in several:
        object.__setattr__(one, "_name", explainer.name)
    return Combination(_two_or_more(several), "mean")


def _two_or_more(explainers: tuple[Explainer, ...]) -> tuple[Explainer, ...]:
    if len(explainers) < 2:
        raise OptionError(f"There are {len(explainers)} explainers.", "Combine two or more.")
    return explainers
