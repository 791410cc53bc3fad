"""Factory of sources: from a folder, a file or a data set of PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvx_core import GroundTruthBoxes, InputError, UsageError, get_task
from cvx_core.explanations import settled
from cvx_diagnose.data.folders import ClassFolders, open_paired_folders
from cvx_diagnose.data.sources import Source, TorchDataset
from cvx_diagnose.data.tables import TableSource, open_coco


def open_source(
    data: Any, task: str, classes: Sequence[str] | None, images: str | Path | None = None
) -> Source:
    """Return the source for a folder, a file or a data set of PyTorch.

    Parameters
    ----------
    data
        A folder: with a folder for each class (for classifiers), or with ``images`` and ``masks``,
        ``labels`` or ``Annotations`` beside them. A ``.csv`` or ``.parquet`` file with the columns
        ``path`` and ``label``. A COCO ``.json``. Or a map-style data set of PyTorch.
    task, classes
        Of the model.
    images
        Root of the paths in a file; the file's own folder if None.

    Raises
    ------
    InputError, UsageError
        If the data do not exist, or can't be read for this task.
    """
    names = None if classes is None else tuple(classes)
    if not isinstance(data, str | os.PathLike):
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise UsageError(
                f"data must be a folder, a file, or a data set with __len__ and __getitem__, got "
                f"{type(data).__name__}."
            )
        return TorchDataset(type(data).__name__, task, names, data)
    path = settled(Path(data))
    root = None if images is None else settled(Path(images))
    if path.is_dir():
        if get_task(task).exclusive:
            return ClassFolders(str(data), task, names, path)
        return open_paired_folders(path, str(data), task, names)
    if not path.is_file():
        raise InputError(f"File not found: {data}.", "Check the path.")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".parquet"):
        return TableSource(str(data), task, names, root or path.parent, path)
    if suffix == ".json" and get_task(task).ground_truth is GroundTruthBoxes:
        return open_coco(path, root, task, names)
    raise UsageError(
        f"Can't read {data} as a data set for {task}.",
        "Give a folder, a .csv or .parquet with the columns path and label, or (for detection) a "
        "COCO .json.",
    )
