"""One input of a data set, and what is true of it, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvx_core import GroundTruthBox, GroundTruthBoxes, InputError, read_ground_truth
from cvx_core.tasks import GroundTruth


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes
    ----------
    id
        Its place in the source's order, from 0. No other item of a source has it.
    path
        Of the file, from the source's root; ``#17`` in a data set without files.
    label
        What is true, or None where that is unknown: a class by name or index; of segmenters and
        detectors the name of a file for `cvx_core.read_ground_truth`, from the root, or boxes as
        `write_boxes` writes them.
    """

    id: int
    path: str
    label: str | None

    @property
    def shown(self) -> str:
        """The path for people and for files in UTF-8."""
        return self.path.encode("utf-8", "backslashreplace").decode()


def write_boxes(truth: GroundTruthBoxes) -> str:
    """Return boxes as text, for `Item.label`.

    Examples
    --------
    >>> write_boxes(GroundTruthBoxes.of([(1, 2, 30, 40)], ["cat"]))
    '[[[1.0, 2.0, 30.0, 40.0], "cat", false]]'
    """
    return json.dumps([[list(one.box), one.reference, one.crowd] for one in truth.boxes])


def truth_of(
    item: Item, root: Path, task: str, classes: Sequence[str] | None
) -> GroundTruth | None:
    """Return what is true of an item, in the form that the task needs.

    Raises
    ------
    InputError
        If the file that should hold it can't be read.
    """
    if item.label is None or task == "classification":
        return item.label
    if task == "detection" and item.label.startswith("["):
        try:
            return GroundTruthBoxes(
                tuple(
                    GroundTruthBox((left, top, right, bottom), reference, crowd)
                    for (left, top, right, bottom), reference, crowd in json.loads(item.label)
                )
            )
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{item.label[:60]!r} are no boxes: {error}.",
                "Boxes read [[[left, top, right, bottom], class, crowd], ...].",
            ) from error
    return read_ground_truth(str(root / item.label), task, root / item.path, classes)
