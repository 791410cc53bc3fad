"""Target syntax of the command line."""

from __future__ import annotations

import re

from cvx_core._util.files import is_file
from cvx_core.errors import InputError, TargetError
from cvx_core.images.regions import Box, parse_region
from cvx_core.tasks.detection.targets import BoxScore, Missed
from cvx_core.tasks.segmentation.targets import ComponentScore, PixelScore, RegionScore
from cvx_core.tasks.targets import (
    ClassScore,
    Contrast,
    Distribution,
    Error,
    Margin,
    Predicted,
    Target,
)

_WORDS: dict[str, type[Target]] = {
    "predicted": Predicted,
    "distribution": Distribution,
    "error": Error,
    "margin": Margin,
}


def parse_target(text: str) -> Target:
    """Read a target as written on the command line.

    ``predicted``, ``distribution``, ``error``, ``margin``, ``"tabby vs tiger cat"``, or a
    class by name or index. ``class:NAME`` is a class that is called like one of the
    words. Parts of the image, in pixels of the image: ``"box 2"``, ``"box 120,40,260,300
    dog"``, ``"missed 120,40,260,300 dog"``, ``"region 120,40,260,300 person"``, ``"region mask.png
    person"``, ``"pixel 120,40 person"``; the class may be left out except of what is missed.

    Raises
    ------
    TargetError
        If the text is empty or a side of a contrast is missing.
    """
    stripped = text.strip()
    if stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()]()
    part = _parse_part(stripped)
    if part is not None:
        return part
    sides = re.split(r"\s+vs\.?\s+", stripped)
    if len(sides) == 2 and all(sides):
        return Contrast(*(side.removeprefix("class:") for side in sides))
    if not stripped or len(sides) > 2 or re.fullmatch(r"(vs\.?(\s.*)?)|(.*\svs\.?)", stripped):
        raise TargetError(
            f"Invalid target: {text!r}.",
            "Write predicted, distribution, error, margin, a class, or 'CLASS vs CLASS'.",
        )
    return ClassScore(stripped.removeprefix("class:"))


BAND = 3
"""Width of a boundary, in output pixels, as of the errors of a segmenter."""


_NUMBER = r"-?\d+(?:\.\d+)?"


_FOUR = rf"{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}"


_CORNERS = rf"(?:{_NUMBER},{_NUMBER}\s+){{2,}}{_NUMBER},{_NUMBER}"


_FORMS = {
    "boundary": "X,Y",
    "box": "LEFT,TOP,RIGHT,BOTTOM, or box NUMBER",
    "component": "X,Y",
    "missed": "LEFT,TOP,RIGHT,BOTTOM CLASS",
    "pixel": "X,Y",
    "region": "LEFT,TOP,RIGHT,BOTTOM, or corners X,Y X,Y X,Y, or the path of a mask",
}


def _parse_part(text: str) -> Target | None:
    """Read a target about a part of the image; None if it is none. See `parse_target`.

    Raises
    ------
    TargetError, InputError
        If it begins as one and does not go on as one.
    """
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word == "box" and re.match(rf"(?:\d{{1,9}}|{_FOUR})(?:\s|$)", rest):
        if re.match(_FOUR, rest):
            box, name = _box_and_rest(rest)
            return BoxScore(box, *_classes(name))
        rank, _, name = rest.partition(" ")
        if name.strip() in ("left", "top", "right", "bottom"):
            return BoxScore(int(rank), side=name.strip())
        return BoxScore(int(rank), *_classes(name))
    if word == "missed" and re.match(_FOUR, rest):
        box, name = _box_and_rest(rest)
        if not name:
            raise TargetError(
                f"{text!r} names no class.", "Write: missed LEFT,TOP,RIGHT,BOTTOM CLASS."
            )
        return Missed(box, name)
    if word == "pixel" and (
        found := re.match(rf"({_NUMBER})\s*,\s*({_NUMBER})(?:\s+(.*))?$", rest)
    ):
        return PixelScore(float(found[1]), float(found[2]), found[3] or None)
    if word in ("component", "boundary") and (
        found := re.match(rf"({_NUMBER})\s*,\s*({_NUMBER})(?:\s+(.*))?$", rest)
    ):
        band = BAND if word == "boundary" else 0
        return ComponentScore(float(found[1]), float(found[2]), *_classes(found[3] or ""), band)
    if word == "region" and rest and (found_region := _region(rest)) is not None:
        return found_region
    if word in _FORMS and re.match(rf"{_NUMBER}\s*,|\d{{10,}}(?:\s|$)", rest):
        raise TargetError(f"{text[:200]!r} can't be read.", f"Write: {word} {_FORMS[word]}.")
    return None


def _box_and_rest(text: str) -> tuple[Box, str]:
    found = re.match(rf"({_FOUR})\s*(.*)$", text)
    assert found is not None
    return Box(*map(float, found[1].split(","))), found[2].strip()


def _classes(text: str) -> tuple[str | None, str | None]:
    """Return the class, and the one it is compared with, of ``dog`` or ``dog vs horse``."""
    sides = [side.strip() for side in re.split(r"\s+vs\.?\s+", text.strip())]
    return sides[0] or None, sides[1] if len(sides) > 1 else None


def _region(text: str) -> Target | None:
    numbers = re.match(rf"({_CORNERS}|{_FOUR})(?:\s+(.*))?$", text)
    if numbers:
        return RegionScore(parse_region(numbers[1]), *_classes(numbers[2] or ""))
    # A path may hold spaces, so the longest beginning that is a file is taken.
    words = text.split(" ")
    for k in range(len(words), 0, -1):
        path = " ".join(words[:k])
        if is_file(path):
            return RegionScore(parse_region(path), *_classes(" ".join(words[k:])))
    path_like = re.match(r".*?\.(png|bmp|tiff?|webp|jpe?g|gif)(?=\s|$)", text, re.IGNORECASE)
    if path_like:
        raise InputError(
            f"There is no mask {path_like[0]!r}.",
            "Give a box left,top,right,bottom, corners x,y x,y x,y, or the path of a mask, as PNG.",
        )
    return None
