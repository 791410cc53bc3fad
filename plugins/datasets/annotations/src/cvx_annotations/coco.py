"""COCO's annotations of instances, in JSON (Lin et al., ECCV 2014)."""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cvx_annotations.class_names import ClassNames
from cvx_annotations.common import proper_box, read_all, read_each
from cvx_annotations.orientation import upright_boxes
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


@dataclass
class CocoImage:
    """An image of a COCO file.

    Attributes
    ----------
    name
        As written in the file.
    size
        (width, height) that the file says; None if it says none.
    objects
        Its objects.
    faults
        What is wrong with its entry or its annotations, each with its place.
    """

    name: str
    size: tuple[int, int] | None
    objects: GroundTruthBoxes = field(default_factory=lambda: GroundTruthBoxes(()))
    faults: list[str] = field(default_factory=list)


def coco_images(
    file: Path, names: ClassNames, *, boxes: bool = True
) -> tuple[list[CocoImage], list[str]]:
    """Return the images of a file with their objects, and faults that concern none of them.

    A fault costs the image that it concerns, not the whole file. Without `boxes` only the images
    are read.

    Raises
    ------
    InputError
        If the file is no COCO file of instances, or its categories are not the model's.
    """
    data = _parsed(file, file.stat().st_mtime_ns if is_file(file) else 0)
    categories, faults = _known(data["categories"], "name", "category")
    images: dict[Any, CocoImage] = {}
    found = []
    for k, one in enumerate(data["images"]):
        named = isinstance(one, dict) and isinstance(one.get("file_name"), str)
        image = CocoImage(one["file_name"] if named else f"images[{k}]", _size(one))
        found.append(image)
        key = one.get("id") if isinstance(one, dict) else None
        if not named:
            image.faults.append(f"image {k} lacks 'file_name'.")
        if not _is_id(key):
            image.faults.append(f"image {k} has an invalid id, {_short(key)}.")
        elif key in images:
            for same in (image, images[key]):
                same.faults.append(f"image {k} has the id {_short(key)} of another.")
        else:
            images[key] = image
    of: dict[Any, list[tuple[str, dict[str, Any]]]] = {key: [] for key in images}
    for k, one in enumerate(data["annotations"]):
        key = one.get("image_id") if isinstance(one, dict) else None
        if _is_id(key) and key in of:
            of[key].append((f"annotation {k}", one))
        else:
            faults.append(f"annotation {k}: image {_short(key)} was not found.")
    used = {one.get("category_id") for several in of.values() for _, one in several if _hashed(one)}
    names.check([name for key, name in categories.items() if key in used], str(file))
    for key, several in of.items():
        if not boxes:
            continue
        read, wrong = read_each(several, lambda one: _box(one[1], categories, names, one[0]))
        images[key].objects = GroundTruthBoxes(tuple(read))
        images[key].faults += [error.message for error in wrong]
    return found, faults


def _hashed(one: dict[str, Any]) -> bool:
    return _is_id(one.get("category_id"))


def _known(entries: list[Any], field_: str, what: str) -> tuple[dict[Any, str], list[str]]:
    """Return texts by their ids, and the faults of entries that have none."""
    found: dict[Any, str] = {}
    faults = []
    for k, one in enumerate(entries):
        try:
            found |= _by_id([one], field_, f"{what} {k}") | found
        except InputError as error:
            faults.append(error.message)
    return found, faults


def _size(entry: Any) -> tuple[int, int] | None:
    """Return (width, height) of an image's entry, if they are said."""
    if not isinstance(entry, dict):
        return None
    width, height = entry.get("width"), entry.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
        return None
    return width, height


def read_coco(file: Path, image: Path, names: ClassNames) -> GroundTruthBoxes:
    """Return the objects of the image that has the name of `image`; see `read_annotations`."""
    entry, categories, found = annotations_of(file, image)
    boxes = read_all(found, lambda one: _box(one[1], categories, names, one[0]))
    return upright_boxes(GroundTruthBoxes(tuple(boxes)), _size(entry), image, str(file))


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
    wanted = same_name(image.name)
    here = [key for key, name in images.items() if same_name(name) == wanted]
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


def same_name(path: str) -> str:
    """Return the name of a file, alike for separators and Unicode forms that mean the same."""
    return unicodedata.normalize("NFC", path.replace("\\", "/").rpartition("/")[2])


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


def category_name(one: dict[str, Any], categories: dict[Any, str]) -> str:
    """Return the name of an annotation's category; raises `ValueError` if there is no such one."""
    key = one["category_id"]
    if not _is_id(key) or key not in categories:
        raise ValueError(f"category {_short(key)} was not found")
    return categories[key]


def is_crowd(one: dict[str, Any]) -> bool:
    """Return an annotation's ``iscrowd``, 0 if left out; raises `ValueError` if it's another."""
    said = one.get("iscrowd", 0)
    if not isinstance(said, int) or said not in (0, 1):
        raise ValueError(f"iscrowd must be 0 or 1, got {_short(said)}")
    return bool(said)


def _box(
    one: dict[str, Any], categories: dict[Any, str], names: ClassNames, where: str
) -> GroundTruthBox | None:
    try:
        name = category_name(one, categories)
        sides = real_numbers(one["bbox"])
        if len(sides) != 4:
            raise ValueError(f"bbox has {len(sides)} numbers")
        crowd = is_crowd(one)
    except KeyError as error:
        raise InputError(f"{where}: no {error}.", WAY_OUT) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}.", WAY_OUT) from error
    x, y, width, height = sides
    box = proper_box((x, y, x + width, y + height), where, "bbox is [x, y, width, height].")
    found = names.find(name, where)
    return None if found is None else GroundTruthBox(box, found, crowd)
