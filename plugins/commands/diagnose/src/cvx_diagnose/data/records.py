"""Labels of records, such as the rows of Parquet files and JSON lines, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cvx_annotations.common import proper_box

from cvx_core import GroundTruthBox, GroundTruthBoxes, InputError, get_task
from cvx_diagnose.data.items import format_boxes

CLASS_KEYS = (
    *("labels", "label", "classes", "class", "categories", "category", "category_id"),
    *("names", "name"),
)
_FORM = (
    "Boxes are {'boxes': [[left, top, right, bottom], ...], 'labels': [...]}, or as in COCO "
    "[{'bbox': [x, y, width, height], 'category': ...}, ...]."
)


def label_text(value: Any, task: str, names: Sequence[str] | None = None) -> str | None:
    """Return the label of a record as text for `Item.label`; None if it is unknown.

    Parameters
    ----------
    value
        A class by name or index, the name of a file, or for detectors boxes.
    task
        Of the model.
    names
        Class names of the data set, in the order of its indices, if it has them.

    Examples
    --------
    >>> label_text(1, "classification", ["cat", "dog"]), label_text("", "classification")
    ('dog', None)
    >>> label_text({"bbox": [[1, 2, 29, 38]], "category": ["cat"]}, "detection")
    '[[[1.0, 2.0, 30.0, 40.0], "cat", false]]'

    Raises
    ------
    InputError
        If boxes have another form.
    """
    if value is None or value == "":
        return None
    if get_task(task).ground_truth is GroundTruthBoxes and not isinstance(value, str | int):
        return format_boxes(_boxes(value, names))
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with gaps
    if isinstance(value, int) and names is not None and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _boxes(value: Any, names: Sequence[str] | None) -> GroundTruthBoxes:
    try:
        entries = _entries(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"Invalid boxes {str(value)[:60]!r}: {error}.", _FORM) from error
    return GroundTruthBoxes(
        tuple(
            GroundTruthBox(
                proper_box(sides, f"box {k}", _FORM),
                names[name] if names and isinstance(name, int) and 0 <= name < len(names) else name,
                crowd,
            )
            for k, (sides, name, crowd) in enumerate(entries)
        )
    )


def _entries(value: Any) -> list[tuple[tuple[float, float, float, float], Any, bool]]:
    if isinstance(value, Mapping):
        name = _class_key(value)
        corners = "boxes" in value
        several = value["boxes"] if corners else value["bbox"]
        found = [
            (_sides(sides, corners), of, False)
            for sides, of in zip(several, value[name], strict=True)
        ]
        crowds = value.get("iscrowd") or [False] * len(found)
        return [(sides, of, bool(c)) for (sides, of, _), c in zip(found, crowds, strict=True)]
    if all(isinstance(one, Mapping) for one in value):
        return [
            (
                _sides(one["box"] if "box" in one else one["bbox"], "box" in one),
                one[_class_key(one)],
                bool(one.get("iscrowd", False)),
            )
            for one in value
        ]
    return [(_sides(sides, True), name, bool(crowd)) for sides, name, crowd in value]


def _class_key(value: Mapping[str, Any]) -> str:
    # Without any the first is named as missing.
    return next((key for key in CLASS_KEYS if key in value), CLASS_KEYS[0])


def _sides(given: Any, corners: bool) -> tuple[float, float, float, float]:
    a, b, c, d = map(float, given)
    return (a, b, c, d) if corners else (a, b, a + c, b + d)


def feature_names(feature: Any) -> list[str] | None:
    """Return the class names in a feature of Hugging Face datasets, or None.

    Parameters
    ----------
    feature
        Of a class, of a sequence of classes, or of boxes with classes; as JSON or as an object.
    """
    if isinstance(feature, list):
        return feature_names(feature[0]) if feature else None
    names = feature.get("names") if isinstance(feature, dict) else getattr(feature, "names", None)
    if isinstance(names, list):
        return [str(one) for one in names]
    inner = (
        feature.get("feature") if isinstance(feature, dict) else getattr(feature, "feature", None)
    )
    if inner is not None:
        return feature_names(inner)
    if isinstance(feature, dict):
        found = (feature_names(one) for one in feature.values() if not isinstance(one, str | int))
        return next((one for one in found if one is not None), None)
    return None
