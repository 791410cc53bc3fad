"""Factory of sources: from a folder, a file or a data set of PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvx_core import (
    GroundTruthBoxes,
    GroundTruthMask,
    InputError,
    TargetError,
    UsageError,
    get_task,
    read_text,
)
from cvx_core.explanations import settled
from cvx_core.tasks import TEXT_TABLES, find_class
from cvx_diagnose.data.archives import (
    ParquetImages,
    TarShards,
    image_column,
    list_archives,
    open_parquet,
)
from cvx_diagnose.data.folders import ClassFolders, YoloSplit, open_paired_folders, open_yolo_config
from cvx_diagnose.data.sources import Source, TorchDataset
from cvx_diagnose.data.storage import Storage, is_url
from cvx_diagnose.data.tables import JSON_LINES, CocoSource, TableSource, open_coco


def open_source(
    data: Any,
    task: str,
    classes: Sequence[str] | None,
    images: str | Path | None = None,
    *,
    classes_map: Mapping[str, str | int] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
) -> Source:
    """Return the source for a folder, a file or a data set in memory.

    Parameters
    ----------
    data
        A folder: with a folder for each class (for classifiers), or with ``images`` and ``masks``,
        ``labels`` or ``Annotations`` beside them. A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``
        file with a column of paths, or of images in Parquet, and one of labels. A COCO ``.json``, a
        YOLO ``data.yaml``, or ``.tar`` files of WebDataset. Each on this machine or at an
        address that fsspec reads, such as ``s3://bucket/images``; of several archives a folder, or
        a pattern such as ``train-{000..009}.tar``. Or a map-style data set of PyTorch, or of
        Hugging Face datasets.
    task, classes
        Of the model.
    images
        Root of the paths in a table or a COCO file; the file's own folder if None.
    classes_map
        From class names of the data (or numbers, as text) to names or indices of the model's; an
        empty text leaves the class out.
    path_column, label_column
        Columns of a table; None finds usual names, such as ``path`` and ``label``.
    split
        Of a ``data.yaml``; None takes ``val``, or what there is.

    Raises
    ------
    InputError, UsageError
        If the data do not exist, can't be read for this task, or don't take an option.
    """
    given = images, path_column, label_column, split
    source = _open(data, task, classes, classes_map or {}, *given)
    for (option, kinds, takers), value in zip(_OPTIONS, given, strict=True):
        if value is not None and not isinstance(source, kinds):
            raise UsageError(
                f"{option} has no effect on {source.name}.",
                f"Only {takers} takes it: leave it out.",
            )
    return source


_COLUMNS = (TableSource, ParquetImages), "a table or Parquet file"
_OPTIONS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("--images", (TableSource, CocoSource), "a table of paths or a COCO file"),
    ("--path-column", *_COLUMNS),
    ("--label-column", *_COLUMNS),
    ("--split", (YoloSplit,), "a data.yaml of YOLO"),
)
"""Options, the sources that take them, and what these are of."""


def _open(
    data: Any,
    task: str,
    classes: Sequence[str] | None,
    classes_map: Mapping[str, str | int],
    images: str | Path | None,
    path_column: str | None,
    label_column: str | None,
    split: str | None,
) -> Source:
    names = None if classes is None else tuple(classes)
    renamed = {str(key): str(value) for key, value in classes_map.items()}
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
    where = _storage(data)
    root = None if images is None else _storage(images)
    parent, last = where.parent, where.name
    suffix = Path(last).suffix.lower()
    form = get_task(task).ground_truth
    given: dict[str, Any] = {"renamed": renamed}
    common = str(data), task, names
    archive = suffix in (".tar", ".parquet")
    if archive and ("*" in last or "{" in last):
        found = list_archives(parent, suffix, last)
        if not found:
            raise InputError(f"No file matches {data}.", "Check the pattern.")
        return _open_archives(parent, found, common, path_column, label_column, given)
    known = (*TEXT_TABLES, *JSON_LINES, ".tar", ".parquet", ".json", ".yaml", ".yml")
    if suffix not in known and where.is_folder():
        return _open_folder(where, common, path_column, label_column, given)
    if not parent.is_file(last):
        if where.is_folder():
            return _open_folder(where, common, path_column, label_column, given)
        raise InputError(f"File not found: {data}.", "Check the path.")
    if suffix == ".tar" or (suffix == ".parquet" and _has_images(parent, last, path_column)):
        return _open_archives(parent, (last,), common, path_column, label_column, given)
    if suffix in (*TEXT_TABLES, *JSON_LINES, ".parquet"):
        columns = path_column, label_column
        return TableSource(*common, root or parent, parent.fetch(last), *columns, **given)
    if suffix == ".json" and form in (GroundTruthBoxes, GroundTruthMask):
        return open_coco(where, root, task, names, renamed)
    if suffix in (".yaml", ".yml") and form is GroundTruthBoxes:
        return open_yolo_config(parent, last, *common, renamed, split)
    raise UsageError(
        f"Can't read {data} as a data set for {task}.",
        "Give a folder, a .csv, .jsonl or .parquet with the columns path and label, .tar files, or "
        "(for detection) a COCO .json or a YOLO data.yaml.",
    )


_Common = tuple[str, str, tuple[str, ...] | None]


def _storage(data: str | os.PathLike[str]) -> Storage:
    return Storage(str(data) if is_url(str(data)) else settled(Path(data)))


def _has_images(folder: Storage, file: str, column: str | None) -> bool:
    with open_parquet(folder, file) as opened:
        return image_column(opened.schema_arrow, column) is not None


def _open_archives(
    folder: Storage,
    files: tuple[str, ...],
    common: _Common,
    image: str | None,
    label: str | None,
    given: Mapping[str, Any],
) -> Source:
    if files[0].lower().endswith(".tar"):
        return TarShards(*common, folder, files, **given)
    return ParquetImages(*common, folder, files, image, label, **given)


def _open_folder(
    folder: Storage,
    common: _Common,
    image: str | None,
    label: str | None,
    given: Mapping[str, Any],
) -> Source:
    entries = folder.entries()
    if not any(is_folder for is_folder in entries.values()):
        for ending in (".tar", ".parquet"):
            found = list_archives(folder, ending)
            if found and (ending == ".tar" or _has_images(folder, found[0], image)):
                return _open_archives(folder, found, common, image, label, given)
    if get_task(common[1]).exclusive:
        return ClassFolders(*common, folder, **given)
    return open_paired_folders(folder, *common, given["renamed"])


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
