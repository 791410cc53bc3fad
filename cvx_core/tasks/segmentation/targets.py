"""Targets about a region, a pixel or a connected component of a segmentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvx_core._util.files import is_file
from cvx_core.errors import InputError, TargetError
from cvx_core.images.components import border, components
from cvx_core.images.regions import Point, Region, mask_region, parse_region
from cvx_core.tasks.classes import ClassRef
from cvx_core.tasks.prediction import Prediction, Resolved
from cvx_core.tasks.segmentation.prediction import SegmentationPrediction
from cvx_core.tasks.targets import FOUR, NUMBER, Target, split_classes, target_text


@dataclass(frozen=True)
class RegionScore(Target):
    """A class's logit summed over a region, of a segmenter.

    Parameters
    ----------
    region
        A `Box`, `Polygon` or `MaskRegion` in pixels of the image.
    reference
        The class; None takes the one predicted for most of the region.
    against
        Another class whose logits are taken away: why the one rather than the other there.
    """

    region: Region
    reference: ClassRef | None = None
    against: ClassRef | None = None
    class_fields = ("reference", "against")

    @property
    def asked(self) -> str:
        """As in ``region 120,40,260,300 person``."""
        return target_text(
            "region", self.region.text.removeprefix("box "), self.reference, self.against
        )

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed that sums the class's logits (less the other's) over the region.

        Raises
        ------
        TargetError
            If the model predicts nothing for each pixel, a class is unknown, or the network
            doesn't see the region.
        """
        return prediction.resolve_region(self.region, self.reference, self.against, label)


@dataclass(frozen=True)
class PixelScore(Target):
    """A class's logit at one output pixel, of a segmenter.

    Parameters
    ----------
    x, y
        In pixels of the image; the output pixel that contains it counts.
    reference
        The class; None takes the one predicted there.
    """

    x: float
    y: float
    reference: ClassRef | None = None
    class_fields = ("reference",)

    @property
    def asked(self) -> str:
        """As in ``pixel 120,40 person``."""
        return target_text(Point(self.x, self.y).text, "", self.reference)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the one-hot seed of the class at the pixel; raises as `RegionScore`."""
        return prediction.resolve_region(Point(self.x, self.y), self.reference, None, label)


@dataclass(frozen=True)
class ComponentScore(Target):
    """A class's logit summed over a connected component of a segmentation, or over its border.

    Parameters
    ----------
    x, y
        A point in it, in pixels of the image. The component holds all output pixels of the class
        predicted there that are connected with it through sides and corners.
    reference
        The class; None takes the component's own.
    against
        Another class whose logits are taken away.
    band
        Width in output pixels: only the part's pixels up to so far from its border; 0 takes all.
    """

    x: float
    y: float
    reference: ClassRef | None = None
    against: ClassRef | None = None
    band: int = 0
    class_fields = ("reference", "against")

    def __post_init__(self) -> None:
        if isinstance(self.band, bool) or not isinstance(self.band, int) or self.band < 0:
            raise TargetError(f"band must be 0 or more output pixels, got {self.band!r}.")

    @property
    def asked(self) -> str:
        """As in ``component 120,40`` or ``boundary 120,40 person``."""
        place = Point(self.x, self.y).text.removeprefix("pixel ")
        kind = "boundary" if self.band else "component"
        return target_text(kind, place, self.reference, self.against)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed of the class's logits over the component; raises as `RegionScore`."""
        prediction = SegmentationPrediction.require(prediction, self)
        point = Point(self.x, self.y)
        [row], [column] = np.nonzero(point.on_grid(prediction.frame, prediction.shape))
        parts = components(prediction.predicted)
        whole = parts == parts[row, column]
        inside = border(whole, self.band) if self.band else whole
        own = int(prediction.predicted[row, column])
        if not inside.any():
            raise TargetError(
                f"{prediction.name(own)} is predicted everywhere and has no border.",
                f"Use the whole: component {self.x:g},{self.y:g}.",
            )
        classes = [own if self.reference is None else prediction.find(self.reference)]
        if self.against is not None:
            classes = [*prediction.find_two(classes[0], self.against)]
        seed = prediction.seed(inside, *classes)
        names = " rather than ".join(prediction.name(c) for c in classes)
        part = (
            f"the part of {int(whole.sum())} pixels of {prediction.name(own)} at "
            f"{self.x:g},{self.y:g}"
        )
        where = f"at the border of {part}" if self.band else f"in {part}"
        signs = [1.0, -1.0][: len(classes)]
        return seed, prediction.record(
            "region",
            f"what supports {names} {where}?",
            seed,
            inside,
            classes,
            signs,
            box=mask_region(prediction.frame, inside).bounds,
        )


FORMS = {
    "boundary": "X,Y",
    "component": "X,Y",
    "pixel": "X,Y",
    "region": "LEFT,TOP,RIGHT,BOTTOM, or corners X,Y X,Y X,Y, or the path of a mask",
}

BAND = 3
"""Width of a boundary, in output pixels, as of the errors of a segmenter."""

_CORNERS = rf"(?:{NUMBER},{NUMBER}\s+){{2,}}{NUMBER},{NUMBER}"


def parse_region_target(word: str, rest: str) -> Target | None:
    """Read a target about a part of the image as on the command line; None if it is none.

    Raises
    ------
    InputError
        If there is no such mask.
    """
    if word == "region":
        return _parse_region(rest) if rest else None
    point = re.match(rf"({NUMBER})\s*,\s*({NUMBER})(?:\s+(.*))?$", rest)
    if point is None or word not in FORMS:
        return None
    x, y = float(point[1]), float(point[2])
    if word == "pixel":
        return PixelScore(x, y, point[3] or None)
    band = BAND if word == "boundary" else 0
    return ComponentScore(x, y, *split_classes(point[3] or ""), band)


def _parse_region(text: str) -> Target | None:
    numbers = re.match(rf"({_CORNERS}|{FOUR})(?:\s+(.*))?$", text)
    if numbers:
        return RegionScore(parse_region(numbers[1]), *split_classes(numbers[2] or ""))
    # A path may hold spaces, so the longest beginning that is a file is taken.
    words = text.split(" ")
    for k in range(len(words), 0, -1):
        path = " ".join(words[:k])
        if is_file(path):
            return RegionScore(parse_region(path), *split_classes(" ".join(words[k:])))
    path_like = re.match(r".*?\.(png|bmp|tiff?|webp|jpe?g|gif)(?=\s|$)", text, re.IGNORECASE)
    if path_like:
        raise InputError(
            f"There is no mask {path_like[0]!r}.",
            "Give a box left,top,right,bottom, corners x,y x,y x,y, or the path of a mask, as PNG.",
        )
    return None
