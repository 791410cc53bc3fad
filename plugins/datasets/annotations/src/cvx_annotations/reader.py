"""Reader of ground truth for every task: COCO, Pascal VOC, YOLO, and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cvx_annotations.coco import read_coco
from cvx_annotations.coco_masks import read_coco_masks
from cvx_annotations.common import read_text
from cvx_annotations.mask import read_class_mask
from cvx_annotations.voc import read_voc
from cvx_annotations.yolo import read_yolo
from cvx_core import InputError, UsageError, is_file
from cvx_core.tasks import GroundTruth, GroundTruthBoxes, Prediction


def read_ground_truth(
    path: str | Path,
    task: str | Prediction,
    image: str | Path = "",
    classes: Sequence[str] | None = None,
) -> GroundTruth:
    """Return what is true of an image, from a file or as written on the command line.

    Parameters
    ----------
    path
        For classification a class by name or index, or a ``.txt`` file whose only line is one. For
        segmentation a mask image: the class's index at each pixel (grey values or a palette's
        indices), 255 unknown; or COCO's ``.json`` with outlines or run lengths. For detection
        COCO's ``.json`` (``instances``), Pascal VOC's ``.xml``, or YOLO's ``.txt``.
    task
        ``"classification"``, ``"segmentation"`` or ``"detection"``, or a model's answer.
    image
        The photograph, by path or name: COCO's file tells images by name, and YOLO's fractions
        need the photograph's size, which is read from its file.
    classes
        The model's class names: names in a file must be among them. COCO's and VOC's classes come
        by name; YOLO's and a mask's numbers are the model's own indices.

    Returns
    -------
    str, TrueClasses or TrueBoxes
        Boxes are in pixels of the photograph. COCO's crowds and VOC's difficult objects are marked
        ``crowd``: neither found nor missed. VOC counts pixels from 1 and includes the last; boxes
        here run from edge to edge.

    Raises
    ------
    InputError
        If the file can't be read or isn't what it should be: with line or annotation.
    """
    if isinstance(task, Prediction):
        classes = task.classes if classes is None else classes
        task = task.task
    file = Path(path)
    if task == "classification":
        return _class(file, str(path))
    if task == "segmentation":
        if file.suffix.lower() == ".json":
            return read_coco_masks(file, Path(image), classes)
        return read_class_mask(file)
    if task != "detection":
        raise UsageError(
            f"The task {task!r} is unknown.", "It is classification, segmentation or detection."
        )
    readers: dict[str, Callable[[Path, Path, Sequence[str] | None], GroundTruthBoxes]] = {
        ".json": read_coco,
        ".xml": lambda file, _, classes: read_voc(file, classes),
        ".txt": read_yolo,
    }
    if file.suffix.lower() not in readers:
        raise InputError(
            f"{file} holds no boxes that can be read.",
            "A detector's truth is a COCO .json, a Pascal VOC .xml or a YOLO .txt.",
        )
    return readers[file.suffix.lower()](file, Path(image), classes)


def _class(file: Path, text: str) -> str:
    suffix = file.suffix.lower()
    if suffix in (".json", ".xml", ".png") and is_file(file):
        raise InputError(
            f"{file} is ground truth for a detector or a segmenter, and the model classifies.",
            "Give the true class by its name or its index.",
        )
    if suffix != ".txt" or not is_file(file):
        return text
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if len(lines) != 1:
        raise InputError(
            f"{file} has {len(lines)} lines, and a classifier's truth is one class.",
            "Write the class's name or index on one line.",
        )
    return lines[0]
