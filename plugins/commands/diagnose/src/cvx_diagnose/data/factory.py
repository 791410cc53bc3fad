"""From what a user names to a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvx_core import InputError, UsageError
from cvx_diagnose.data.folders import ClassFolders, pairs
from cvx_diagnose.data.sources import DataSet, Source
from cvx_diagnose.data.tables import Listed, coco


def open_source(
    data: Any, task: str, classes: Sequence[str] | None, images: str | Path | None = None
) -> Source:
    """Return the data set that is meant.

    Parameters
    ----------
    data
        A folder: with a folder for each class (a classifier's), or with ``images`` and ``masks``,
        ``labels`` or ``Annotations`` beside them. A ``.csv`` or ``.parquet`` file with the columns
        ``path`` and ``label``. A COCO ``.json``. Or a map-style data set of PyTorch.
    task, classes
        The model's.
    images
        Where the paths in a file begin; the file's own folder if None.

    Raises
    ------
    InputError, UsageError
        If there is no such data, or it is nothing that can be read.
    """
    names = None if classes is None else tuple(classes)
    if not isinstance(data, str | os.PathLike):
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise UsageError(
                f"The data are a {type(data).__name__}.",
                "Give a folder, a file, or a data set with __len__ and __getitem__.",
            )
        return DataSet(type(data).__name__, task, names, data)
    path = absolute_path(Path(data))
    root = None if images is None else absolute_path(Path(images))
    if path.is_dir():
        if task == "classification":
            return ClassFolders(str(data), task, names, path)
        return pairs(path, str(data), task, names)
    if not path.is_file():
        raise InputError(f"{data} is not there.", "Is the path right?")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".parquet"):
        return Listed(str(data), task, names, root or path.parent, path)
    if suffix == ".json" and task == "detection":
        return coco(path, root, names)
    raise UsageError(
        f"{data} is no list of inputs for {task}.",
        "Give a folder, a .csv or .parquet with the columns path and label, or (for detection) a "
        "COCO .json.",
    )


def absolute_path(path: Path) -> Path:
    """Return the absolute path, which stays valid if a plugin changes the working directory."""
    try:
        return path.absolute()
    except OSError:  # the working directory was deleted; using the path reports that better
        return path
