"""Inputs of a data set with their labels as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvx_annotations.orientation import upright_boxes
from cvx_annotations.reader import read_annotations

from cvx_core import (
    GroundTruthBox,
    GroundTruthBoxes,
    GroundTruthMask,
    InputError,
    get_task,
    read_ground_truth,
)
from cvx_core.tasks import GroundTruth

_FAULTS = "faults"


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes
    ----------
    id
        Position in the source, from 0; unique within a source.
    path
        Of the file, relative to the source's root; ``#17`` in a data set without files.
    label
        The ground truth as text, or None if unknown: a class by name or index; for segmenters and
        detectors the name of a file for `cvx_core.read_ground_truth`, relative to the root, or
        boxes as written by `format_boxes`; or what is wrong with it, by `format_faults`.
    """

    id: int
    path: str
    label: str | None

    @property
    def display_path(self) -> str:
        """The path as printable UTF-8."""
        return self.path.encode("utf-8", "backslashreplace").decode()


def format_faults(faults: Sequence[str]) -> str:
    """Return what is wrong with an item's label as text, for `Item.label`."""
    return json.dumps({_FAULTS: list(faults)}, ensure_ascii=False)


def check_faults(item: Item) -> None:
    """Check that nothing is wrong with an item's label.

    Raises
    ------
    InputError
        With all that is.
    """
    if item.label is None or not item.label.startswith(f'{{"{_FAULTS}": '):
        return
    faults = json.loads(item.label)[_FAULTS]
    count = f"{len(faults)} faults. " if len(faults) > 1 else ""
    raise InputError(f"{count}{' '.join(faults)}", "Correct the annotations, and run again.")


def format_boxes(ground_truth: GroundTruthBoxes, size: tuple[int, int] | None = None) -> str:
    """Return boxes as text, for `Item.label`; with the size of the image that they are for.

    Examples
    --------
    >>> format_boxes(GroundTruthBoxes.of([(1, 2, 30, 40)], ["cat"]))
    '[[[1.0, 2.0, 30.0, 40.0], "cat", false]]'
    """
    boxes = [[list(one.box), one.reference, one.crowd] for one in ground_truth.boxes]
    return json.dumps(boxes if size is None else {"boxes": boxes, "size": size})


def read_item_label(
    item: Item,
    root: Path,
    task: str,
    classes: Sequence[str] | None,
    renamed: Mapping[str, str] | None = None,
) -> GroundTruth | None:
    """Return the ground truth of an item, in the form that the task needs.

    Parameters
    ----------
    renamed
        From class names of the data to names or indices of the model.

    Raises
    ------
    InputError
        If the file with the ground truth can't be read.
    """
    form = get_task(task)
    if item.label is None:
        return None
    if form.exclusive:
        return (renamed or {}).get(item.label, item.label) or None
    if form.ground_truth is str:
        return form.read_label(item.label, root / item.path, classes)
    if form.ground_truth is GroundTruthBoxes and item.label.startswith(("[", "{")):
        try:
            said = json.loads(item.label)
            boxes, size = (said["boxes"], said["size"]) if isinstance(said, dict) else (said, None)
            found = GroundTruthBoxes(
                tuple(
                    GroundTruthBox((left, top, right, bottom), reference, crowd)
                    for (left, top, right, bottom), reference, crowd in boxes
                )
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"Invalid boxes {item.label[:60]!r}: {error}.",
                "Expected [[[left, top, right, bottom], class, crowd], ...].",
            ) from error
        return upright_boxes(found, size, root / item.path, "The annotation")
    if renamed and form.ground_truth in (GroundTruthBoxes, GroundTruthMask):
        label, image = root / item.label, root / item.path
        return read_annotations(label, form.ground_truth, image, classes, renamed)
    return read_ground_truth(str(root / item.label), task, root / item.path, classes)
