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

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch

from cvx_core.errors import OptionError, did_you_mean
from cvx_core.explainers.base import Composite, Explainer, rectify
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
            parts = {"parts": [dict(one.provenance) for one in ones]}
            additive = all(one.additive for one in ones)
            found.append(Attribution(values, {}, parts, additive=additive))
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
            found.append(replace(ones[0], values=maps.mean(0), evidence=evidence))
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
        raise OptionError(
            f"A composition needs two or more explainers, got {len(explainers)}.",
            "Write mean(A, B).",
        )
    return explainers


OPERATIONS = ("mean", "product", "smooth", "layers", "contrast", "rectify")
"""Operations that a text may name; see `compose`."""

_OPTIONS = {"smooth": {"n": int, "sigma": float}}


def is_composition(text: str) -> bool:
    """Whether a text names an operation on explainers, as ``"mean(a, b)"`` does.

    Examples
    --------
    >>> is_composition("mean(a, b)"), is_composition("reads:query=(8,8)")
    (True, False)
    """
    return re.match(r"\s*[\w-]+\s*\(", text) is not None


def compose(text: str, get: Callable[[str], Explainer]) -> Explainer:
    """Return the explainer that a text describes, as in ``"smooth(mean(a, b:layer=c), n=8)"``.

    Parameters
    ----------
    text
        ``mean(A, B, ...)``, ``product(A, B, ...)``, ``smooth(A, n=16, sigma=0.1)``,
        ``layers(A, LAYER, LAYER, ...)``, ``contrast(A, CLASS, CLASS)`` or ``rectify(A)``. Each
        explainer is a name with its parameters, or another composition.
    get
        Returns the explainer of a name with parameters.

    Raises
    ------
    OptionError
        If the operation is unknown, its arguments don't fit, or a parenthesis is missing.
    """
    if not is_composition(text):
        return get(text.strip())
    operation, _, rest = text.strip().partition("(")
    operation = operation.strip()
    if operation not in OPERATIONS:
        raise OptionError(
            f"Unknown operation {operation!r} in {text!r}.",
            did_you_mean(operation, OPERATIONS) or "Available: " + ", ".join(OPERATIONS) + ".",
        )
    kinds = _OPTIONS.get(operation, {})
    options: dict[str, Any] = {}
    words = []
    for word in _arguments(rest, set(kinds), text):
        key, _, value = (part.strip() for part in word.partition("="))
        if key not in kinds:
            words.append(word)
            continue
        try:
            options[key] = kinds[key](value)
        except ValueError:
            kind = "an integer" if kinds[key] is int else "a number"
            raise OptionError(f"{key} must be {kind}, got {value!r}.") from None
    if operation in ("mean", "product"):
        combine = mean if operation == "mean" else product
        return combine(*(compose(word, get) for word in words))
    if operation == "layers":
        return layers(compose(words[0], get), words[1:])
    wanted = 3 if operation == "contrast" else 1
    if len(words) != wanted:
        raise OptionError(
            f"{operation} takes {wanted} arguments, got {len(words)}: {text!r}.",
            "Write contrast(EXPLAINER, CLASS, CLASS), smooth(EXPLAINER, n=16) or "
            "rectify(EXPLAINER).",
        )
    explainer = compose(words[0], get)
    if operation == "contrast":
        return contrast(explainer, words[1], words[2])
    return smooth(explainer, **options) if operation == "smooth" else explainer | rectify


def _arguments(text: str, options: set[str], whole: str) -> list[str]:
    """Return the arguments up to the closing parenthesis; a part's parameters stay with it."""
    depth, pieces = 1, [""]
    for index, letter in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if depth == 0:
            if index < len(text) - 1:
                break
        elif letter == "," and depth == 1:
            pieces.append("")
        else:
            pieces[-1] += letter
    else:
        if depth == 0:
            found: list[str] = []
            for piece in pieces:
                key = piece.partition("=")[0].strip()
                parameter = "=" in piece and "(" not in key and ":" not in key
                if parameter and key not in options and found and ":" in found[-1]:
                    found[-1] += f",{piece.strip()}"
                else:
                    found.append(piece.strip())
            if all(found):
                return found
            raise OptionError(f"An argument is empty in {whole!r}.", "Write mean(A, B).")
    raise OptionError(
        f"The parentheses don't match in {whole!r}.", "Write an operation as mean(A, B)."
    )
