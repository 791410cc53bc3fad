"""Inputs of a data set with their labels as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvx_core import GroundTruthBox, GroundTruthBoxes, InputError, get_task, read_ground_truth
from cvx_core.tasks import GroundTruth


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
        boxes as written by `format_boxes`.
    """

    id: int
    path: str
    label: str | None

    @property
    def display_path(self) -> str:
        """The path as printable UTF-8."""
        return self.path.encode("utf-8", "backslashreplace").decode()


def format_boxes(ground_truth: GroundTruthBoxes) -> str:
    """Return boxes as text, for `Item.label`.

    Examples
    --------
    >>> format_boxes(GroundTruthBoxes.of([(1, 2, 30, 40)], ["cat"]))
    '[[[1.0, 2.0, 30.0, 40.0], "cat", false]]'
    """
    return json.dumps([[list(one.box), one.reference, one.crowd] for one in ground_truth.boxes])


def read_item_label(
    item: Item, root: Path, task: str, classes: Sequence[str] | None
) -> GroundTruth | None:
    """Return the ground truth of an item, in the form that the task needs.

    Raises
    ------
    InputError
        If the file with the ground truth can't be read.
    """
    form = get_task(task)
    if item.label is None or form.exclusive:
        return item.label
    if form.ground_truth is str:
        return form.read_label(item.label, root / item.path, classes)
    if form.ground_truth is GroundTruthBoxes and item.label.startswith("["):
        try:
            return GroundTruthBoxes(
                tuple(
                    GroundTruthBox((left, top, right, bottom), reference, crowd)
                    for (left, top, right, bottom), reference, crowd in json.loads(item.label)
                )
            )
        except (ValueError, TypeError) as error:
            raise InputError(
                f"Invalid boxes {item.label[:60]!r}: {error}.",
                "Expected [[[left, top, right, bottom], class, crowd], ...].",
            ) from error
    return read_ground_truth(str(root / item.label), task, root / item.path, classes)
