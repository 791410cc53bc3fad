"""YOLO's boxes: a line of numbers for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from cvx_annotations.class_names import ClassNames
from cvx_annotations.common import proper_box, read_all
from cvx_core import InputError, is_file, read_text
from cvx_core.images import read_image
from cvx_core.tasks import GroundTruthBox, GroundTruthBoxes

_WAY_OUT = (
    "A line is: class index, center x, center y, width, height; all but the first as fractions of "
    "the image size."
)

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")
"""Files that may name the classes, in the folder of the labels or up to two above."""


def read_yolo(file: Path, image: Path, names: ClassNames) -> GroundTruthBoxes:
    """Return the objects of a file, given the image; see `read_annotations`."""
    width, height = _size(image, file)
    called = class_names_near(file.parent)

    def read(numbered: tuple[int, str]) -> GroundTruthBox | None:
        number, line = numbered
        where, words = f"{file}, line {number}", line.split()
        try:
            index = int(words[0])
            x, y, across, down = map(float, words[1:])
        except ValueError as error:
            raise InputError(f"{where}: invalid box {line[:60]!r}.", _WAY_OUT) from error
        if not all(-0.01 <= value <= 1.01 for value in (x, y, across, down)):
            raise InputError(
                f"{where}: values must be between 0 and 1, got {line[:60]!r}.", _WAY_OUT
            )
        sides = (
            (x - across / 2) * width,
            (y - down / 2) * height,
            (x + across / 2) * width,
            (y + down / 2) * height,
        )
        name: str | int = index
        # Without class names of the model only the number can be compared.
        if called is not None and names.classes is not None:
            if index not in called[1]:
                raise InputError(
                    f"{where}: {called[0]} names no class {index}.", "Add it to the names there."
                )
            name = called[1][index]
        found = names.find(name, where)
        box = proper_box(sides, where, _WAY_OUT)
        return None if found is None else GroundTruthBox(box, found)

    lines = enumerate(read_text(file).splitlines(), start=1)
    return GroundTruthBoxes(tuple(read_all([one for one in lines if one[1].strip()], read)))


def class_names_near(folder: Path) -> tuple[Path, Mapping[int, str]] | None:
    """Return the file that names the classes of YOLO's labels in a folder, and their names.

    None if there is no such file.

    Raises
    ------
    InputError
        If it can't be read.
    """
    here = folder.absolute()
    for place in (here, *here.parents[:2]):
        for name in NAMES:
            if is_file(place / name):
                found = _names(place / name, (place / name).stat().st_mtime_ns)
                if found is not None:
                    return place / name, found
    return None


@lru_cache(maxsize=8)
def _names(file: Path, changed: int) -> Mapping[int, str] | None:  # noqa: ARG001 - parsed anew when changed
    text = read_text(file)
    if file.suffix not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    way_out = "names is a list, or a mapping from numbers to names."
    try:
        data: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"Invalid YAML: {file}: {error}.", way_out) from error
    if not isinstance(data, dict) or "names" not in data:
        return None
    names = data["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        # Aliases of lists of aliases would become a text without end.
        if any(isinstance(name, list | dict | set) for name in names.values()):
            raise ValueError("a name must be a text or a number")
        return {int(number): str(name) for number, name in names.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"Invalid names in {file}: {error}.", way_out) from error


def _size(image: Path, file: Path) -> tuple[int, int]:
    """Return (width, height) of an image, upright."""
    if not is_file(image):
        raise InputError(
            f"{file} uses relative coordinates, but the image size is unknown.",
            "Pass the image: read_ground_truth(file, task, image='photo.jpg').",
        )
    return read_image(image).size
