"""Factory of sources: from a folder, a file or a data set of PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvx_core import (
    GroundTruthBoxes,
    InputError,
    TargetError,
    UsageError,
    get_task,
    read_text,
)
from cvx_core.explanations import settled
from cvx_core.tasks import TEXT_TABLES, find_class
from cvx_diagnose.data.folders import ClassFolders, open_paired_folders
from cvx_diagnose.data.sources import Source, TorchDataset
from cvx_diagnose.data.tables import TableSource, open_coco


def open_source(
    data: Any,
    task: str,
    classes: Sequence[str] | None,
    images: str | Path | None = None,
    *,
    classes_map: Mapping[str, str | int] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """Return the source for a folder, a file or a data set of PyTorch.

    Parameters
    ----------
    data
        A folder: with a folder for each class (for classifiers), or with ``images`` and ``masks``,
        ``labels`` or ``Annotations`` beside them. A ``.csv``, ``.tsv`` or ``.parquet`` file with a
        column of paths and one of labels. A COCO ``.json``. Or a map-style data set of PyTorch.
    task, classes
        Of the model.
    images
        Root of the paths in a file; the file's own folder if None.
    classes_map
        From class names of the data (or numbers, as text) to names or indices of the model's; an
        empty text leaves the class out.
    path_column, label_column
        Columns of a table; None finds usual names, such as ``path`` and ``label``.

    Raises
    ------
    InputError, UsageError
        If the data do not exist, or can't be read for this task.
    """
    names = None if classes is None else tuple(classes)
    renamed = {str(key): str(value) for key, value in (classes_map or {}).items()}
    _check_targets(renamed, names)
    if not isinstance(data, str | os.PathLike):
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise UsageError(
                f"data must be a folder, a file, or a data set with __len__ and __getitem__, got "
                f"{type(data).__name__}."
            )
        if renamed:
            raise UsageError("A data set of PyTorch can't have a map of classes.", _OWN_TARGETS)
        return TorchDataset(type(data).__name__, task, names, data)
    path = settled(Path(data))
    root = None if images is None else settled(Path(images))
    if path.is_dir():
        if get_task(task).exclusive:
            return ClassFolders(str(data), task, names, path, renamed=renamed)
        return open_paired_folders(path, str(data), task, names, renamed)
    if not path.is_file():
        raise InputError(f"File not found: {data}.", "Check the path.")
    suffix = path.suffix.lower()
    if suffix in (*TEXT_TABLES, ".parquet"):
        where = root or path.parent
        columns = path_column, label_column
        return TableSource(str(data), task, names, where, path, *columns, renamed=renamed)
    if suffix == ".json" and get_task(task).ground_truth is GroundTruthBoxes:
        return open_coco(path, root, task, names, renamed)
    raise UsageError(
        f"Can't read {data} as a data set for {task}.",
        "Give a folder, a .csv or .parquet with the columns path and label, or (for detection) a "
        "COCO .json.",
    )


def parse_classes_map(texts: Sequence[str]) -> dict[str, str]:
    """Return a map of classes from texts as ``--classes-map`` takes them.

    Each is ``NAME=NAME`` or several of these, separated by commas, or a JSON file of one mapping.

    Examples
    --------
    >>> parse_classes_map(["bike=bicycle,sofa=", "3=cat"])
    {'bike': 'bicycle', 'sofa': '', '3': 'cat'}

    Raises
    ------
    InputError, UsageError
        If a text is neither.
    """
    found: dict[str, str] = {}
    for text in texts:
        if "=" not in text and text.lower().endswith(".json"):
            try:
                data = json.loads(read_text(Path(text)))
                found |= {str(key): str(value) for key, value in data.items()}
            except (ValueError, AttributeError) as error:
                raise InputError(f"Invalid map of classes: {text}: {error}.", _FORM) from error
            continue
        for pair in text.split(","):
            name, equals, other = pair.partition("=")
            if not equals or not name.strip():
                raise UsageError(f"--classes-map must be NAME=NAME, got {pair!r}.", _FORM)
            found[name.strip()] = other.strip()
    return found


_FORM = "As in 'bike=bicycle,sofa=' or a .json file of one mapping; an empty name leaves out."
_OWN_TARGETS = "Map the targets in the data set itself."


def _check_targets(renamed: Mapping[str, str], classes: tuple[str, ...] | None) -> None:
    for name, other in renamed.items():
        if classes is not None and other:
            try:
                find_class(other, classes, len(classes))
            except TargetError as error:
                raise UsageError(
                    f"classes_map maps {name!r} to {other!r}: {error.message}", error.hint
                ) from error
