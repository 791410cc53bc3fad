"""Reader of ground truth files: COCO, Pascal VOC, YOLO, and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cvx_annotations.class_names import ClassNames
from cvx_annotations.coco import read_coco
from cvx_annotations.coco_masks import read_coco_masks
from cvx_annotations.mask import read_class_mask
from cvx_annotations.voc import read_voc
from cvx_annotations.yolo import read_yolo
from cvx_core import InputError, UsageError
from cvx_core.tasks import GroundTruthBoxes, GroundTruthMask

Form = type[GroundTruthBoxes] | type[GroundTruthMask]

_BOXES: dict[str, Callable[[Path, Path, ClassNames], GroundTruthBoxes]] = {
    ".json": read_coco,
    ".xml": read_voc,
    ".txt": read_yolo,
}


def read_annotations(
    path: str | Path,
    form: Form,
    image: str | Path = "",
    classes: Sequence[str] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> GroundTruthBoxes | GroundTruthMask:
    """Return the ground truth of an image from a file.

    Parameters
    ----------
    path
        For `GroundTruthMask` a mask image: the class's index at each pixel (grey values or a
        palette's indices), 255 unknown; or COCO's ``.json`` with outlines or run lengths. For
        `GroundTruthBoxes` COCO's ``.json`` (``instances``), Pascal VOC's ``.xml``, or YOLO's
        ``.txt``.
    form
        What to read: `GroundTruthMask` or `GroundTruthBoxes`.
    image
        The image, by path or name: COCO's file tells images by name, and YOLO's fractions need
        the size of the image, which is read from its file.
    classes
        The model's class names: names in a file must be among them. COCO's and VOC's classes come
        by name, and YOLO's where a ``data.yaml`` or ``classes.txt`` near the labels names them;
        otherwise its numbers are the model's own indices, as are a mask's.
    renamed
        From names (or numbers, as text) in the file to the model's; an empty text leaves the
        objects of a class out.

    Returns
    -------
    GroundTruthMask or GroundTruthBoxes
        Boxes are in pixels of the image. COCO's crowds and VOC's difficult objects are marked
        ``crowd``: neither found nor missed. VOC counts pixels from 1 and includes the last; boxes
        here run from edge to edge. Masks and boxes of the pixels as stored are turned upright as
        the image's EXIF tag says.

    Raises
    ------
    InputError
        If the file can't be read or isn't what it should be: with line or annotation, all faults.
    UsageError
        If `form` is another.
    """
    file, names = Path(path), ClassNames(classes, renamed or {})
    suffix = file.suffix.lower()
    if form is GroundTruthMask:
        if suffix == ".json":
            return read_coco_masks(file, Path(image), names)
        return read_class_mask(file, Path(image), names)
    if form is not GroundTruthBoxes:
        raise UsageError(f"form must be GroundTruthMask or GroundTruthBoxes, got {form!r}.")
    if suffix not in _BOXES:
        raise InputError(
            f"Unsupported file of boxes: {file}.",
            "Pass a COCO .json, a Pascal VOC .xml or a YOLO .txt.",
        )
    return _BOXES[suffix](file, Path(image), names)
