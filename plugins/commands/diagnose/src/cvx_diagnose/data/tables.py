"""Sources from files: CSV, JSON lines, Parquet and COCO annotations."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cvx_annotations.class_names import ClassNames
from cvx_annotations.coco import CocoImage, coco_images
from cvx_annotations.reader import read_annotations

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, UsageError, get_task
from cvx_core.images import SourceImage, read_image
from cvx_core.tasks import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    GroundTruth,
    delimiter,
    find_column,
)
from cvx_diagnose.data.items import Item, format_boxes, format_faults
from cvx_diagnose.data.records import label_text
from cvx_diagnose.data.sources import FileSource, find_file, shorten_names
from cvx_diagnose.data.storage import Storage, is_url

JSON_LINES = (".jsonl", ".ndjson")
_WAY_OUT = (
    "Give a column 'path', and a column 'label' with the true class or a file; or name the columns "
    "with --path-column and --label-column."
)


@dataclass(frozen=True)
class TableSource(FileSource):
    """A CSV with a header, JSON lines or a Parquet file: paths and labels, in order.

    An empty label means unknown. Paths are relative to the storage, or addresses. The delimiter of
    a CSV is found: a comma, a semicolon, a tab or a bar.

    Attributes
    ----------
    file
        On this machine.
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
        suffix = self.file.suffix.lower()
        readers = {".parquet": self._parquet, **dict.fromkeys(JSON_LINES, self._json_lines)}
        for i, (path, label) in enumerate(readers.get(suffix, self._csv)()):
            where = f"{self.name}, row {i + 1}"
            if isinstance(path, InputError) or not path:
                fault = path.message if isinstance(path, InputError) else "the path is empty."
                yield Item(i, f"row {i + 1}", format_faults([f"{where}: {fault}"]))
                continue
            try:
                said = label_text(label, self.task)
            except InputError as error:
                said = format_faults([f"{where}: {error.message}"])
            yield Item(i, find_file(self.storage, str(path)), said)

    def columns(self) -> Mapping[int, Mapping[str, Any]]:
        """Return the values of the other columns by row; a broken line has none."""
        try:
            if self.file.suffix.lower() == ".parquet":
                with pq.ParquetFile(self.file) as opened:
                    own = self._columns(opened.schema_arrow.names)
                    found = read_scalars(opened, {*own})
                return dict(enumerate(found)) if any(found) else {}
            rows = [*self._rows()]
        except (OSError, csv.Error, pa.ArrowException) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error
        names = dict.fromkeys(str(name) for row in rows for name in row)
        nested = {name for row in rows for name in row if isinstance(row[name], list | dict)}
        others = set(names) - nested - {*self._columns([*names])}
        found = [{name: row.get(name) for name in names if name in others} for row in rows]
        return dict(enumerate(found)) if others else {}

    def _rows(self) -> Iterator[Mapping[Any, Any]]:
        """Yield all values of each line."""
        with self.file.open(newline="", encoding="utf-8-sig", errors="replace") as text:
            if self.file.suffix.lower() in JSON_LINES:
                for line in filter(str.strip, text):
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError):
                        row = {}
                    yield row if isinstance(row, dict) else {}
                return
            lines = csv.DictReader(text, delimiter=delimiter(text.readline()), strict=True)
            text.seek(0)
            for fields in lines:
                yield {name: value for name, value in fields.items() if name is not None}

    def _csv(self) -> Iterator[tuple[str | InputError, str | None]]:
        try:
            with self.file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
                header = text.readline()
                if "\0" in header:
                    raise InputError(f"Not UTF-8 text: {self.file}.", "Save it as UTF-8.")
                lines = csv.DictReader(text, delimiter=delimiter(header), strict=True)
                text.seek(0)
                names = lines.fieldnames or []
                path, label = self._columns(names)
                for line in lines:
                    # A label with a comma that is not in quotes would lose its end.
                    if any(one.strip() for one in line.get(None, ())):
                        more = len(names) + len(line[None])
                        yield InputError(f"{more} columns, the header has {len(names)}."), None
                        continue
                    said = line.get(label) if label is not None else None
                    yield (line[path] or "").strip(), (said or "").strip()
        except (OSError, csv.Error) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error

    def _json_lines(self) -> Iterator[tuple[Any, Any]]:
        """Yield path and label of each line; an error for one that is broken."""
        found: tuple[str, str | None] | None = None
        try:
            with self.file.open(encoding="utf-8-sig", errors="surrogateescape") as text:
                for line in filter(str.strip, text):
                    try:
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise ValueError("a line must be an object")
                    except (ValueError, RecursionError) as error:
                        yield InputError(f"invalid JSON: {error}."), None
                        continue
                    # A line may lack a column that others have.
                    found = found or self._columns(list(row))
                    path, label = found
                    if label is None and len(row) > 1:
                        label = self._columns(list(row))[1]
                        found = path, label
                    yield row.get(path), None if label is None else row.get(label)
        except OSError as error:
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
        if not names:
            raise InputError(f"{self.name} is empty.", _WAY_OUT)
        path = choose_column(names, self.path_column, PATH_COLUMNS, "--path-column", self.name)
        usual: tuple[str, ...] = LABEL_COLUMNS
        if get_task(self.task).ground_truth is GroundTruthBoxes:
            usual = ("objects", "annotations", "boxes", *LABEL_COLUMNS)
        label = choose_column(names, self.label_column, usual, "--label-column", self.name)
        for name in (path, label):
            if names.count(name) > 1:
                raise InputError(
                    f"{self.name} has {names.count(name)} columns {name!r}.", "Rename all but one."
                )
        if path is None:
            raise InputError(
                f"{self.name} has no column 'path', only {shorten_names(list(names))}.",
                f"{_WAY_OUT} Looked for: {', '.join(PATH_COLUMNS)}.",
            )
        return path, label


def read_scalars(opened: pq.ParquetFile, without: set[str | None]) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file: texts, numbers and times of all columns but some."""
    wanted = [
        field.name
        for field in opened.schema_arrow
        if field.name not in without
        and not pa.types.is_nested(field.type)
        and "binary" not in str(field.type)
    ]
    # Without a column the reader would tell no rows.
    if not wanted:
        return [{}] * opened.metadata.num_rows
    found: list[dict[str, Any]] = opened.read(wanted).to_pylist()
    return found


def choose_column(
    names: Sequence[str], given: str | None, usual: Sequence[str], option: str, where: str
) -> str | None:
    """Return the column that is given, or one with a usual name, or None.

    Raises
    ------
    InputError
        If the given one does not exist, or several have a usual name.
    """
    if given is not None:
        if given not in names:
            raise InputError(
                f"{where} has no column {given!r}, only {shorten_names(list(names))}.",
                f"Choose one of them: {option} NAME.",
            )
        return given
    try:
        return find_column(names, usual)
    except UsageError as error:
        raise InputError(f"{where}: {error.message}", f"Choose one: {option} NAME.") from error


@dataclass(frozen=True)
class CocoSource(FileSource):
    """The images of a COCO file of instances, in the file's order; their boxes or their masks.

    Attributes
    ----------
    file
        On this machine.
    """

    file: Path
    images: tuple[CocoImage, ...] = field(repr=False)
    unassigned: tuple[str, ...] = field(repr=False)

    @property
    def faults(self) -> Sequence[str]:
        """Faults of entries that concern none of the images."""
        return [f"{self.file}, {fault}" for fault in self.unassigned]

    def items(self) -> Iterator[Item]:
        """Yield the images with their boxes, or with the file that holds their masks."""
        masks = get_task(self.task).ground_truth is GroundTruthMask
        for i, image in enumerate(self.images):
            label = self.file.name if masks else format_boxes(image.objects, image.size)
            if image.faults:
                label = format_faults([f"{self.file}, {fault}" for fault in image.faults])
            yield Item(i, find_file(self.storage, image.name), label)

    def load(self, item: Item) -> tuple[SourceImage, GroundTruth | None]:
        """Read the image, and its boxes or its mask."""
        if item.label != self.file.name:
            return super().load(item)
        with self.storage.reading(item.path) as file:
            image = read_image(file, shown=item.display_path)
            path = file if is_url(item.path) else self.storage.root / item.path
            mask = read_annotations(self.file, GroundTruthMask, path, self.classes, self.renamed)
        return image, mask

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes read items, and need no list of all.
        return {**self.__dict__, "images": (), "unassigned": ()}


def open_coco(
    file: Storage,
    images: Storage | None,
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
    here, name = file.parent, file.name
    path = here.fetch(name)
    boxes = get_task(task).ground_truth is GroundTruthBoxes
    found, unassigned = coco_images(path, ClassNames(classes, renamed or {}), boxes=boxes)
    stem = PurePosixPath(name).stem
    near = [here, here / "images", here.parent / "images", here.parent]
    near += [base / stem.rpartition("_")[2] for base in (here, here.parent)]
    roots = [images] if images is not None else near
    some = found[:: max(1, len(found) // _TRIED)]
    counts = [sum(r.is_file(find_file(r, one.name)) for one in some) for r in roots]
    best = max(range(len(roots)), key=lambda k: counts[k])
    if found and not counts[best] and not is_url(found[0].name):
        tried = ", ".join(dict.fromkeys(map(str, roots)))
        raise UsageError(
            f"None of the images of {file} was found, such as {found[0].name!r}; looked in "
            f"{tried}.",
            "Give the folder that their names are relative to: --images DIR.",
        )
    return CocoSource(
        str(file),
        task,
        classes,
        roots[best],
        path,
        tuple(found),
        tuple(unassigned),
        renamed=renamed or {},
    )


_TRIED = 100
"""Number of images that are looked for in each folder."""
