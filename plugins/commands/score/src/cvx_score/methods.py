"""Methods under evaluation: explainers, explanations, or maps as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cvx_core import (
    CvxError,
    Explainer,
    Explanation,
    Predicted,
    Target,
    UsageError,
    VisionModel,
    explain,
    get_explainer,
)
from cvx_core.images import PreparedImage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Method:
    """The maps of one method.

    Attributes
    ----------
    name
        Its name in tables.
    maps
        One for each image, (h, w), over the network's input, at native resolution.
    explanations
        Explanations with these maps, if given.
    explainer
        The explainer, if given.
    """

    name: str
    maps: Sequence[Any]
    explanations: Sequence[Explanation] | None = None
    explainer: Explainer | None = None

    def each(self) -> Sequence[Explanation | None]:
        """Return the explanation of each image, or None."""
        return self.explanations or [None] * len(self.maps)


def collect_methods(
    model: VisionModel,
    images: Any,
    prepared: Sequence[PreparedImage],
    given: Any,
    targets: Sequence[Target] | None,
    label: Any,
    seed: int,
    memory: int | None,
) -> list[Method]:
    """Return all methods with their maps, which explainers compute here.

    Raises
    ------
    UsageError
        If there is none, or the numbers of maps and images differ.
    """
    if isinstance(given, str | Explainer):
        given = [given]
    entries = _named(given)
    found: dict[str, Method] = {}
    make = {name: one for name, one in entries.items() if isinstance(one, Explainer)}
    if make:
        resolved = targets or [Predicted()] * len(prepared)
        several = explain(model, images, list(make.values()), resolved, label, seed, budget=memory)
        for k, (name, explainer) in enumerate(make.items()):
            own = several[k :: len(make)]
            found[name] = Method(name, [e.values for e in own], own, explainer)
    for name, one in entries.items():
        if name in make:
            continue
        if isinstance(one, list) and one and isinstance(one[0], Explanation):
            found[name] = _of_explanations(name, one, prepared)
        else:
            maps = [one] if getattr(one, "ndim", 3) == 2 else list(one)
            _check_count(name, len(maps), len(prepared))
            found[name] = Method(name, maps)
    return [found[name] for name in entries]


def _named(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        entries = dict(given)
    else:
        entries = {}
        for one in given:
            if isinstance(one, Explanation):
                entries.setdefault(one.method, []).append(one)
            else:
                made = get_explainer(one) if isinstance(one, str) else one
                name, number = made.name, 1
                while name in entries:
                    number += 1
                    name = f"{made.name} {number}"
                entries[name] = made
    if not entries:
        raise UsageError("explainers is empty.", "Pass one or more; 'cvx plugins' lists them.")
    return {
        str(name): get_explainer(one) if isinstance(one, str) else one
        for name, one in entries.items()
    }


def _of_explanations(
    name: str, several: Sequence[Explanation], prepared: Sequence[PreparedImage]
) -> Method:
    _check_count(name, len(several), len(prepared))
    for i, (one, image) in enumerate(zip(several, prepared, strict=True)):
        digest = one.provenance.get("image_sha256")
        same = digest in (None, image.source.digest) and np.allclose(one.extent, image.extent)
        if not same:
            raise UsageError(
                f"Explanation {i} of {name!r} ({one.name}) does not match image {i} "
                f"({image.source.name}) and this model.",
                "Pass images and explanations in the same order, and the explained model.",
            )
    return Method(name, [one.values for one in several], list(several))


def _check_count(name: str, maps: int, images: int) -> None:
    if maps != images:
        raise UsageError(
            f"{name!r} has {maps} maps for {images} images.",
            "Give one map for each image, all for one target.",
        )


def try_each(count: int, measure: Callable[[int], T]) -> tuple[list[T | None], tuple[str, ...]]:
    """Return the result for each image or None, and the reason why there is none or ""."""
    found: list[T | None] = []
    reasons = []
    for i in range(count):
        try:
            found.append(measure(i))
            reasons.append("")
        except CvxError as error:
            found.append(None)
            reasons.append(str(error))
    return found, tuple(reasons)
