"""Whose maps are scored: explainers that make them, explanations that hold them, arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvx_core import (
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


@dataclass(frozen=True, eq=False)
class Contender:
    """The maps of one method.

    Attributes
    ----------
    name
        For people.
    maps
        One for each image, (h, w), over the network's input, as they were made.
    explanations
        What they came in, if they did.
    explainer
        What can make them again, if that is here.
    """

    name: str
    maps: Sequence[Any]
    explanations: Sequence[Explanation] | None = None
    explainer: Explainer | None = None

    def each(self) -> Sequence[Explanation | None]:
        """Return the explanation of each image, or None."""
        return self.explanations or [None] * len(self.maps)


def contenders(
    model: VisionModel,
    images: Any,
    prepared: Sequence[PreparedImage],
    given: Any,
    targets: Sequence[Target] | None,
    label: Any,
    seed: int,
    memory: int | None,
) -> list[Contender]:
    """Return the maps of all methods, having made those that are to be made.

    Raises
    ------
    UsageError
        If there is none, or a method has not one map for each image.
    """
    if isinstance(given, str | Explainer):
        given = [given]
    entries = _named(given)
    found: dict[str, Contender] = {}
    make = {name: one for name, one in entries.items() if isinstance(one, Explainer)}
    if make:
        asked = targets or [Predicted()] * len(prepared)
        several = explain(model, images, list(make.values()), asked, label, seed, budget=memory)
        for k, (name, explainer) in enumerate(make.items()):
            own = several[k :: len(make)]
            found[name] = Contender(name, [e.values for e in own], own, explainer)
    for name, one in entries.items():
        if name in make:
            continue
        if isinstance(one, list) and one and isinstance(one[0], Explanation):
            found[name] = _of_explanations(name, one, prepared)
        else:
            maps = [one] if getattr(one, "ndim", 3) == 2 else list(one)
            _check_count(name, len(maps), len(prepared))
            found[name] = Contender(name, maps)
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
        raise UsageError("There is nothing to score.", "Name an explainer, such as 'grad-cam'.")
    return {
        str(name): get_explainer(one) if isinstance(one, str) else one
        for name, one in entries.items()
    }


def _of_explanations(
    name: str, several: Sequence[Explanation], prepared: Sequence[PreparedImage]
) -> Contender:
    _check_count(name, len(several), len(prepared))
    for i, (one, image) in enumerate(zip(several, prepared, strict=True)):
        digest = one.provenance.get("image_sha256")
        same = digest in (None, image.source.digest) and np.allclose(one.extent, image.extent)
        if not same:
            raise UsageError(
                f"Explanation {i} of {name!r} ({one.name}) is not of image {i} "
                f"({image.source.name}) as this model takes it.",
                "Give images and explanations in the same order, and the model that was explained.",
            )
    return Contender(name, [one.values for one in several], list(several))


def _check_count(name: str, maps: int, images: int) -> None:
    if maps != images:
        raise UsageError(
            f"{name!r} has {maps} maps for {images} images.",
            "Give one map for each image, all of one question.",
        )


__all__ = ["Contender", "contenders"]
