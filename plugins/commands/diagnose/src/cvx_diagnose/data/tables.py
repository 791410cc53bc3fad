"""Sources from files: CSV, Parquet and COCO annotations."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cvx_annotations.class_names import ClassNames
from cvx_annotations.coco import CocoImage, coco_images

from cvx_core import InputError, UsageError
from cvx_diagnose.data.items import Item, format_boxes, format_faults
from cvx_diagnose.data.sources import FileSource, find_file, shorten_names

PATH_COLUMNS = (
    *("path", "filename", "file", "file_name", "filepath", "file_path", "image", "image_path"),
    *("image_name", "image_file", "img", "img_path"),
)
LABEL_COLUMNS = (
    *("label", "class", "target", "category", "labels", "class_name", "label_name"),
    *("mask", "mask_path", "annotation", "ground_truth", "y"),
)
"""Names of columns that are recognized, without regard to case."""

TEXT_TABLES = (".csv", ".tsv", ".tab")
_DELIMITERS = ",;\t|"
_WAY_OUT = (
    "Give a column 'path', and a column 'label' with the true class or a file; or name the columns "
    "with --path-column and --label-column."
)


@dataclass(frozen=True)
class TableSource(FileSource):
    """A CSV with a header, or a Parquet file: a column of paths and one of labels, in order.

    An empty label means unknown. Paths are relative to the root. The delimiter of a CSV is found:
    a comma, a semicolon, a tab or a bar.

    Attributes
    ----------
    path_column, label_column
        Their names; None finds a usual one.
    """

    file: Path
    path_column: str | None = None
    label_column: str | None = None

    @property
    def labels_searched(self) -> str:
        """The column of the labels."""
        named = f"The column {self.label_column!r}" if self.label_column else "A column 'label'"
        return f"{named} of {self.name} was read; --label-column names another one."

    def items(self) -> Iterator[Item]:
        """Yield the rows in order."""
        text = self.file.suffix.lower() in TEXT_TABLES
        rows = self._csv() if text else self._parquet()
        for i, (path, label) in enumerate(rows):
            if not path:
                fault = f"{self.file}, row {i + 1}: the path is empty."
                yield Item(i, f"row {i + 1}", format_faults([fault]))
                continue
            name = find_file(self.root, str(path))
            yield Item(i, name, str(label) if label not in (None, "") else None)

    def columns(self) -> Mapping[int, Mapping[str, Any]]:
        """Return the values of the other columns."""
        try:
            if self.file.suffix.lower() in TEXT_TABLES:
                with self.file.open(newline="", encoding="utf-8-sig", errors="replace") as text:
                    lines = csv.DictReader(text, delimiter=_delimiter(text.readline()))
                    text.seek(0)
                    names = [str(name) for name in lines.fieldnames or []]
                    rows = [{name: line.get(name) for name in names} for line in lines]
            else:
                table = pq.read_table(self.file)
                names = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
                rows = table.select(names).to_pylist()
        except (OSError, csv.Error, pa.ArrowException) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error
        used = self._columns(names)
        others = [name for name in names if name not in used]
        return (
            {i: {name: row[name] for name in others} for i, row in enumerate(rows)}
            if others
            else {}
        )

    def _csv(self) -> Iterator[tuple[str, str | None]]:
        try:
            with self.file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
                lines = csv.DictReader(text, delimiter=_delimiter(text.readline()))
                text.seek(0)
                path, label = self._columns(lines.fieldnames or [])
                for line in lines:
                    said = line.get(label) if label is not None else None
                    yield (line[path] or "").strip(), (said or "").strip()
        except (OSError, csv.Error) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error

    def _parquet(self) -> Iterator[tuple[Any, Any]]:
        try:
            with pq.ParquetFile(self.file) as opened:
                path, label = self._columns(opened.schema_arrow.names)
                columns = [path] if label is None else [path, label]
                for batch in opened.iter_batches(4096, columns=columns):
                    found = batch.to_pydict()
                    labels = [None] * len(batch) if label is None else found[label]
                    yield from zip(found[path], labels, strict=True)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error

    def _columns(self, names: Sequence[str]) -> tuple[str, str | None]:
        """Return the names of the columns of paths and labels; None where there is no label."""
        path = self._column(names, self.path_column, PATH_COLUMNS, "--path-column")
        label = self._column(names, self.label_column, LABEL_COLUMNS, "--label-column")
        if path is None:
            raise InputError(
                f"{self.file} has no column 'path', only {shorten_names(list(names))}.", _WAY_OUT
            )
        return path, label

    def _column(
        self, names: Sequence[str], given: str | None, usual: Sequence[str], option: str
    ) -> str | None:
        if given is not None:
            if given not in names:
                raise InputError(
                    f"{self.file} has no column {given!r}, only {shorten_names(list(names))}.",
                    f"Choose one of them: {option} NAME.",
                )
            return given
        if usual[0] in names:
            return usual[0]
        found = [name for name in names if name.strip().casefold() in usual]
        if len(found) > 1:
            raise InputError(
                f"{self.file} has several columns that may be meant: {shorten_names(found)}.",
                f"Choose one: {option} NAME.",
            )
        return found[0] if found else None


def _delimiter(header: str) -> str:
    """Return the delimiter of a header: the one that occurs most, outside of quotes."""
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda one: unquoted.count(one))


@dataclass(frozen=True)
class CocoSource(FileSource):
    """The images of a COCO file of instances, in the file's order."""

    file: Path
    images: tuple[CocoImage, ...] = field(repr=False)
    unassigned: tuple[str, ...] = field(repr=False)

    @property
    def faults(self) -> Sequence[str]:
        """Faults of entries that concern none of the images."""
        return [f"{self.file}, {fault}" for fault in self.unassigned]

    def items(self) -> Iterator[Item]:
        """Yield the images with their boxes."""
        for i, image in enumerate(self.images):
            label = format_boxes(image.objects, image.size)
            if image.faults:
                label = format_faults([f"{self.file}, {fault}" for fault in image.faults])
            yield Item(i, find_file(self.root, image.name), label)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes read items, and need no list of all.
        return {**self.__dict__, "images": (), "unassigned": ()}


def open_coco(
    file: Path,
    images: Path | None,
    task: str,
    classes: tuple[str, ...] | None,
    renamed: Mapping[str, str] | None = None,
) -> CocoSource:
    """Return the source for a COCO file; unless named, the folder of its images is searched nearby.

    An image that is not found becomes a bad input.

    Raises
    ------
    InputError
        If the file can't be read, or has classes that the model doesn't know.
    UsageError
        If no image is found.
    """
    found, unassigned = coco_images(file, ClassNames(classes, renamed or {}))
    here = file.absolute().parent
    near = [here, here / "images", here.parent / "images", here.parent]
    near += [base / file.stem.rpartition("_")[2] for base in (here, here.parent)]
    roots = [images] if images is not None else near
    some = found[:: max(1, len(found) // _TRIED)]
    counts = [sum((r / find_file(r, one.name)).is_file() for one in some) for r in roots]
    best = max(range(len(roots)), key=lambda k: counts[k])
    if found and not counts[best]:
        tried = ", ".join(str(root) for root in dict.fromkeys(roots))
        raise UsageError(
            f"None of the images of {file} was found, such as {found[0].name!r}; looked in "
            f"{tried}.",
            "Give the folder that their names are relative to: --images DIR.",
        )
    root = roots[best]
    return CocoSource(
        str(file), task, classes, root, file, tuple(found), tuple(unassigned), renamed=renamed or {}
    )


_TRIED = 100
"""Number of images that are looked for in each folder."""
