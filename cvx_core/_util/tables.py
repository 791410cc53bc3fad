"""Tables of images and their labels, as text with a header."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from cvx_core._util.text import shortened
from cvx_core.errors import InputError, UsageError

TEXT_TABLES = (".csv", ".tsv", ".tab")
"""Suffixes of tables."""

PATH_COLUMNS = (
    *("path", "filename", "file", "file_name", "filepath", "file_path", "image", "image_path"),
    *("image_name", "image_file", "img", "img_path"),
)
LABEL_COLUMNS = (
    *("label", "class", "target", "category", "labels", "class_name", "label_name"),
    *("mask", "mask_path", "annotation", "ground_truth", "y"),
)
"""Names of columns that are recognized, without regard to case."""

_DELIMITERS = ",;\t|"


def delimiter(header: str) -> str:
    """Return the delimiter of a header: the one that occurs most, outside of quotes.

    Examples
    --------
    >>> delimiter('path;"a, b"')
    ';'
    """
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda one: unquoted.count(one))


def find_column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the column that has one of the usual names; the first of them comes before others.

    Raises
    ------
    UsageError
        If several columns match.
    """
    if usual[0] in names:
        return usual[0]
    found = [name for name in names if name.strip().casefold() in usual]
    if len(found) > 1:
        said = ", ".join(repr(shortened(name)) for name in found)
        raise UsageError(f"several columns match: {said}.")
    return found[0] if found else None


def label_in_table(file: Path, image: str | Path) -> str | None:
    """Return the label of an image in a table; None where it is empty.

    Parameters
    ----------
    file
        A CSV with a header: a column of paths, which are relative to the table, and one of labels.
    image
        The image, by path: rows are compared with the end of it.

    Raises
    ------
    InputError
        If the table can't be read, or doesn't have the image once.
    """
    try:
        rows = _rows(file.resolve(), file.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"Can't read {file}: {error.strerror}.", _WAY_OUT) from error
    parts = PurePosixPath(Path(image).absolute().as_posix()).parts
    found = rows.get(parts[-1], []) if parts else []
    # A row that says the folder too is meant for that folder alone.
    fitting = [(row, label) for row, label in found if row == parts[-len(row) :]]
    longest = max((len(row) for row, _ in fitting), default=0)
    labels = {label for row, label in fitting if len(row) == longest}
    if len(labels) != 1:
        what = "no row" if not labels else f"{len(labels)} different labels"
        raise InputError(
            f"{file} has {what} for {image}.",
            "Give each image one row, with its path relative to the table.",
        )
    return labels.pop() or None


_WAY_OUT = "Give a CSV with the columns path and label."


@lru_cache(maxsize=4)
def _rows(file: Path, changed: int) -> dict[str, list[tuple[tuple[str, ...], str]]]:  # noqa: ARG001 - read anew when changed
    """Return the parts of the path and the label of each row, by the name of the file."""
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            lines = csv.DictReader(text, delimiter=delimiter(text.readline()), strict=True)
            text.seek(0)
            names = [name for name in lines.fieldnames or [] if name]
            if not names:
                raise InputError(f"{file} is empty.", _WAY_OUT)
            path, label = find_column(names, PATH_COLUMNS), find_column(names, LABEL_COLUMNS)
            if path is None or label is None:
                lacking = "path" if path is None else "label"
                raise InputError(
                    f"{file} has no column {lacking!r}, only {', '.join(map(shortened, names))}.",
                    _WAY_OUT,
                )
            for line in lines:
                written = (line[path] or "").strip().replace("\\", "/")
                parts = PurePosixPath(written).parts
                parts = parts[parts[0] == "." :] if parts else parts
                if parts:
                    found.setdefault(parts[-1], []).append((parts, (line[label] or "").strip()))
    except UsageError as error:
        raise InputError(f"{file}: {error.message}", _WAY_OUT) from error
    except (OSError, csv.Error) as error:
        raise InputError(f"Can't read {file}: {error}.", _WAY_OUT) from error
    return found
