"""COCO's annotations of instances, in JSON (Lin et al., ECCV 2014)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cvx_annotations.common import class_index, proper_box
from cvx_core import InputError, is_file, read_text
from cvx_core.tasks import GroundTruthBox, GroundTruthBoxes

WAY_OUT = "See COCO's data format: images, annotations and categories with their ids."


@lru_cache(maxsize=2)
def _parsed(file: Path, changed: int) -> dict[str, Any]:  # noqa: ARG001 - parsed anew when changed
    """Return a file; those of whole data sets are asked for one image after the other."""
    try:
        data = json.loads(read_text(file))
    except (RecursionError, ValueError) as error:
        said = f"Invalid COCO file: {file}: {error}."
        if isinstance(error, json.JSONDecodeError):
            said = f"{file}, line {error.lineno}: invalid JSON ({error.msg})."
        raise InputError(said, "Pass the COCO file of instances.") from error
    wanted = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in wanted):
        raise InputError(
            f"Not a COCO file of instances: {file}.", f"Required lists: {', '.join(wanted)}."
        )
    return data


def coco_images(
    file: Path, classes: Sequence[str] | None
) -> Iterator[tuple[str, GroundTruthBoxes]]:
    """Yield the name of each image of a file, as written there, with its objects.

    Raises
    ------
    InputError
        See `read_annotations`.
    """
    data, images, names = _tables(file)
    found: dict[Any, list[GroundTruthBox]] = {key: [] for key in images}
    for k, one in enumerate(data["annotations"]):
        where = f"{file}, annotation {k}"
        key = one.get("image_id") if isinstance(one, dict) else None
        if not _is_id(key) or key not in found:
            raise InputError(f"{where}: image {_short(key)} was not found.", WAY_OUT)
        found[key].append(_box(one, names, classes, where))
    for key, name in images.items():
        yield name, GroundTruthBoxes(tuple(found[key]))


def read_coco(file: Path, image: Path, classes: Sequence[str] | None) -> GroundTruthBoxes:
    """Return the objects of the image that has the name of `image`; see `read_annotations`."""
    _, names, found = annotations_of(file, image)
    return GroundTruthBoxes(tuple(_box(one, names, classes, where) for where, one in found))


def annotations_of(
    file: Path, image: Path
) -> tuple[dict[str, Any], dict[Any, str], list[tuple[str, dict[str, Any]]]]:
    """Return an image's entry, the categories' names, and its annotations, each with its place.

    Raises
    ------
    InputError
        See `read_annotations`.
    """
    data, images, names = _tables(file)
    here = [key for key, name in images.items() if Path(name).name == image.name]
    if not here and len(images) == 1 and not image.name:
        here = list(images)
    if len(here) != 1:
        some = ", ".join(list(images.values())[:5])
        raise InputError(
            f"{file} has {len(here)} images called {image.name!r}.",
            f"It has {len(images)}, such as {some}. Images are matched by file name.",
        )
    found = []
    for k, one in enumerate(data["annotations"]):
        where = f"{file}, annotation {k}"
        if not isinstance(one, dict) or "image_id" not in one:
            raise InputError(f"{where}: no 'image_id'.", WAY_OUT)
        if one["image_id"] == here[0]:
            found.append((where, one))
    [entry] = [one for one in data["images"] if one["id"] == here[0]]
    return entry, names, found


def _tables(file: Path) -> tuple[dict[str, Any], dict[Any, str], dict[Any, str]]:
    """Return what a file holds, and the names of files and of categories by their ids."""
    data = _parsed(file, file.stat().st_mtime_ns if is_file(file) else 0)
    return (
        data,
        _by_id(data["images"], "file_name", f"{file}: an image"),
        _by_id(data["categories"], "name", f"{file}: a category"),
    )


def _by_id(entries: list[Any], field: str, what: str) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for one in entries:
        try:
            key, text = one["id"], str(one[field])
        except (KeyError, TypeError) as error:
            raise InputError(f"{what} lacks {error}.", WAY_OUT) from error
        if not _is_id(key):
            raise InputError(
                f"{what} has an invalid id, {_short(key)}.", "An id is a number or a string."
            )
        if key in found:
            raise InputError(f"{what} has the id {_short(key)} of another.", "Use unique ids.")
        found[key] = text
    return found


def _is_id(key: Any) -> bool:
    if isinstance(key, float):
        return math.isfinite(key)
    return isinstance(key, str | int) and not isinstance(key, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def real_numbers(said: Any) -> list[float]:
    """Return the numbers of a list; raises `ValueError` if it is none, or too large for a float."""
    if not isinstance(said, list) or not all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in said
    ):
        raise ValueError(f"expected a list of numbers, got {_short(said)}")
    try:
        return [float(one) for one in said]
    except OverflowError as error:
        raise ValueError(f"{_short(said)} has a number that is too large") from error


def is_crowd(one: dict[str, Any]) -> bool:
    """Return an annotation's ``iscrowd``, 0 if left out; raises `ValueError` if it's another."""
    said = one.get("iscrowd", 0)
    if not isinstance(said, int) or said not in (0, 1):
        raise ValueError(f"iscrowd must be 0 or 1, got {_short(said)}")
    return bool(said)


def _box(
    one: dict[str, Any], names: dict[Any, str], classes: Sequence[str] | None, where: str
) -> GroundTruthBox:
    try:
        name = names[one["category_id"]]
        x, y, width, height = real_numbers(one["bbox"])
        crowd = is_crowd(one)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: {type(error).__name__} {error}.", WAY_OUT) from error
    sides = proper_box((x, y, x + width, y + height), where, "bbox is [x, y, width, height].")
    return GroundTruthBox(sides, class_index(name, classes, where), crowd)
