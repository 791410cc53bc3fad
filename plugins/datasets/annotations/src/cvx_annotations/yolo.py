"""YOLO's boxes: a line of numbers for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cvx_annotations.common import class_index, proper_box
from cvx_core import InputError, is_file, read_text
from cvx_core.images import read_image
from cvx_core.tasks import GroundTruthBox, GroundTruthBoxes


def read_yolo(file: Path, image: Path, classes: Sequence[str] | None) -> GroundTruthBoxes:
    """Return the objects of a file, given the image; see `read_annotations`."""
    width, height = _size(image, file)
    found = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        where, words = f"{file}, line {number}", line.split()
        if not words:
            continue
        way_out = "A line is: class index, center x, center y, width, height; all but the first "
        way_out += "as fractions of the image size."
        try:
            index = int(words[0])
            x, y, across, down = map(float, words[1:])
        except ValueError as error:
            raise InputError(f"{where}: invalid box {line[:60]!r}.", way_out) from error
        if not all(-0.01 <= value <= 1.01 for value in (x, y, across, down)):
            raise InputError(
                f"{where}: values must be between 0 and 1, got {line[:60]!r}.", way_out
            )
        sides = (
            (x - across / 2) * width,
            (y - down / 2) * height,
            (x + across / 2) * width,
            (y + down / 2) * height,
        )
        found.append(
            GroundTruthBox(proper_box(sides, where, way_out), class_index(index, classes, where))
        )
    return GroundTruthBoxes(tuple(found))


def _size(image: Path, file: Path) -> tuple[int, int]:
    """Return (width, height) of an image, upright."""
    if not is_file(image):
        raise InputError(
            f"{file} uses relative coordinates, but the image size is unknown.",
            "Pass the image: read_ground_truth(file, task, image='photo.jpg').",
        )
    return read_image(image).size
