"""Sources from archives: tar shards of WebDataset, and Parquet files that hold images."""

from __future__ import annotations

import json
import os
import re
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, get_task
from cvx_core.images import SUFFIXES, SourceImage, read_image
from cvx_core.tasks import LABEL_COLUMNS, PATH_COLUMNS, GroundTruth
from cvx_diagnose.data.items import Item, check_faults, format_faults, read_item_label
from cvx_diagnose.data.records import feature_names, label_text
from cvx_diagnose.data.sources import Source, shorten_names
from cvx_diagnose.data.storage import Storage
from cvx_diagnose.data.tables import choose_column, read_scalars

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CLASS_MEMBERS = ("cls", "cls.txt", "class", "class.txt", "label", "label.txt", "txt")
_MASK_MEMBERS = ("mask.png", "seg.png", "label.png", "png", "mask.tif", "seg.tif")
_BOX_MEMBERS = ("xml", "txt")
_LARGEST_TEXT = 1 << 20
_WAY_OUT = (
    "A sample is the members of one name: an image, and .cls or .txt with its class, .json with "
    "a label or boxes, .xml or .txt with boxes, or .mask.png."
)


def expand_braces(name: str) -> list[str]:
    """Return the names that a range in braces stands for, as in WebDataset.

    Examples
    --------
    >>> expand_braces("train-{008..010}.tar")
    ['train-008.tar', 'train-009.tar', 'train-010.tar']
    """
    found = _BRACES.search(name)
    if found is None:
        return [name]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    return [
        name[: found.start()] + str(k).zfill(len(first)) + rest
        for k in numbers
        for rest in expand_braces(name[found.end() :])
    ]


class _Archive(Source):
    """A data set whose items are written to a temporary folder to be read."""

    def read(self, item: Item, folder: Path) -> tuple[Path, str | None]:
        """Write an item's image, and the file with its label, if it is one; return path and label.

        Raises
        ------
        InputError
            If it can't be read.
        """
        raise NotImplementedError

    def load(self, item: Item) -> tuple[SourceImage, GroundTruth | None]:
        """Read the image and its ground truth."""
        check_faults(item)
        with TemporaryDirectory(prefix="cvx-") as name:
            folder = Path(name)
            file, label = self.read(item, folder)
            image = read_image(file, shown=item.display_path)
            here = replace(item, path=str(file), label=label)
            return image, read_item_label(here, folder, self.task, self.classes, self.renamed)


@dataclass(frozen=True)
class TarShards(_Archive):
    """Samples of tar files: members of one name, an image and its label, in order.

    Attributes
    ----------
    storage, shards
        The folder, and the names of the files in it.
    """

    storage: Storage
    shards: tuple[str, ...]

    @property
    def labels_searched(self) -> str:
        """The members that were looked for."""
        names = ", ".join(f".{one}" for one in (*self._members(), "json"))
        return f"Beside each image a member of the same name with {names} was looked for."

    def items(self) -> Iterator[Item]:
        """Yield the samples with an image."""
        number = 0
        for shard in self.shards:
            members, texts = _indexed(self.storage, shard)
            samples: dict[str, list[str]] = {}
            for name in members:
                folder, slash, last = name.rpartition("/")
                samples.setdefault(folder + slash + last.partition(".")[0], []).append(name)
            for key, names in samples.items():
                image = self._image(key, names)
                if image is not None:
                    yield Item(number, f"{shard}/{image}", self._label(shard, key, names, texts))
                    number += 1

    def read(self, item: Item, folder: Path) -> tuple[Path, str | None]:
        """Write the members of a sample."""
        shard = next(one for one in self.shards if item.path.startswith(f"{one}/"))
        members, _ = _indexed(self.storage, shard)
        label = item.label
        wanted = [item.path[len(shard) + 1 :]]
        wanted += [label] if label in members and not get_task(self.task).exclusive else []
        written = []
        for k, name in enumerate(wanted):
            if name not in members:
                raise InputError(f"{shard} has no member {name!r}.", "Was the file changed?")
            start, size = members[name]
            file = folder / f"{k}-{PurePosixPath(name).name}"
            file.write_bytes(self.storage.read(shard, start, start + size))
            written.append(file)
        return written[0], label if len(written) == 1 else written[1].name

    def _members(self) -> tuple[str, ...]:
        form = get_task(self.task)
        if form.ground_truth is GroundTruthMask:
            return _MASK_MEMBERS
        return _BOX_MEMBERS if form.ground_truth is GroundTruthBoxes else _CLASS_MEMBERS

    def _image(self, key: str, names: Sequence[str]) -> str | None:
        images = [one for one in names if PurePosixPath(one).suffix.lower() in SUFFIXES]
        masks = get_task(self.task).ground_truth is GroundTruthMask
        if masks and len(images) > 1:
            labels = {f"{key}.{one}" for one in _MASK_MEMBERS}
            images = [one for one in images if one not in labels] or images
        return images[0] if images else None

    def _label(
        self, shard: str, key: str, names: Sequence[str], texts: dict[str, str]
    ) -> str | None:
        image = self._image(key, names)
        for ending in self._members():
            name = f"{key}.{ending}"
            if name in names and name != image:
                return texts[name].strip() or None if self._members() == _CLASS_MEMBERS else name
        name = f"{key}.json"
        if name not in names:
            return None
        try:
            value = json.loads(texts[name])
            if isinstance(value, dict) and "boxes" not in value and "bbox" not in value:
                usual = (*LABEL_COLUMNS, "cls", "objects", "annotations")
                value = next((value[one] for one in usual if one in value), None)
            return label_text(value, self.task)
        except (ValueError, KeyError, InputError) as error:
            said = error.message if isinstance(error, InputError) else f"invalid JSON: {error}."
            return format_faults([f"{shard}, {name}: {said}"])


@lru_cache(maxsize=8)
def _indexed(storage: Storage, shard: str) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Return offset and size of each member of a tar file, and the texts of small ones.

    The headers of a remote file are read by the process that lists the items, and the others read
    what it found.
    """
    file = storage.root / f"{shard}.index.json"
    if storage.url and file.exists():
        members, texts = json.loads(file.read_bytes())
        return {name: tuple(at) for name, at in members.items()}, texts
    found: dict[str, tuple[int, int]] = {}
    texts = {}
    try:
        with storage.opened(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                found[member.name] = member.offset_data, member.size
                small = member.size <= _LARGEST_TEXT
                if small and member.name.endswith(
                    (*(f".{one}" for one in _CLASS_MEMBERS), ".json")
                ):
                    opened = archive.extractfile(member)
                    assert opened is not None
                    texts[member.name] = opened.read().decode("utf-8", "replace")
    except tarfile.TarError as error:
        raise InputError(
            f"Can't read {storage}/{shard}: {error}.", f"Give uncompressed tar files. {_WAY_OUT}"
        ) from error
    if storage.url:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Another process may write the same: each has a name of its own.
        temporary = file.with_name(f".cvx-{os.getpid()}-{file.name}"[:200])
        temporary.write_text(json.dumps([found, texts]))
        temporary.replace(file)
    return found, texts


@dataclass(frozen=True)
class ParquetImages(_Archive):
    """Rows of Parquet files with the bytes of an image and a label, in order.

    The image is a column of bytes, or of a struct with ``bytes`` as Hugging Face datasets writes
    it. Classes by number are named as the file's metadata says.

    Attributes
    ----------
    storage, files
        The folder, and the names of the files in it.
    image_column, label_column
        Their names; None finds a usual one.
    """

    storage: Storage
    files: tuple[str, ...]
    image_column: str | None = None
    label_column: str | None = None

    @property
    def labels_searched(self) -> str:
        """The column of the labels."""
        named = f"The column {self.label_column!r}" if self.label_column else "A column 'label'"
        return f"{named} of {self.name} was read; --label-column names another one."

    def items(self) -> Iterator[Item]:
        """Yield the rows in order."""
        number = 0
        for file in self.files:
            with open_parquet(self.storage, file) as opened:
                self._image_column(opened.schema_arrow, file)
                label, names = self._label_column(opened.schema_arrow)
                row = 0
                columns = [] if label is None else [label]
                inside = label is not None and holds_bytes(opened.schema_arrow.field(label).type)
                for group in range(opened.num_row_groups):
                    count = opened.metadata.row_group(group).num_rows
                    values: list[Any] = [None] * count
                    if columns and not inside:
                        values = opened.read_row_group(group, columns=columns)[label].to_pylist()
                    for value in values:
                        said = self._said(value, names, f"{file}, row {row + 1}")
                        yield Item(number, f"{file}#{row}", _IN_THE_ROW if inside else said)
                        number, row = number + 1, row + 1

    def columns(self) -> Mapping[int, Mapping[str, Any]]:
        """Return the values of the other columns by item, but for lists and bytes."""
        rows: list[Mapping[str, Any]] = []
        for file in self.files:
            with open_parquet(self.storage, file) as opened:
                schema = opened.schema_arrow
                own = {self._image_column(schema, file), self._label_column(schema)[0]}
                rows += read_scalars(opened, own)
        return dict(enumerate(rows)) if any(rows) else {}

    def read(self, item: Item, folder: Path) -> tuple[Path, str | None]:
        """Write the image of a row, and its mask, if it has one."""
        name, _, row = item.path.rpartition("#")
        with open_parquet(self.storage, name) as opened:
            counts = [opened.metadata.row_group(k).num_rows for k in range(opened.num_row_groups)]
            label, _ = self._label_column(opened.schema_arrow)
            image = self._image_column(opened.schema_arrow, name)
        ends = list(accumulate(counts))
        group = bisect_right(ends, int(row))
        columns = (image, label) if item.label == _IN_THE_ROW and label else (image,)
        table = _row_group(self.storage, name, group, columns)
        at = int(row) - (ends[group] - counts[group])
        written: list[Path] = []
        for column in columns:
            value = table[column][at].as_py()
            data = value.get("bytes") if isinstance(value, dict) else value
            if not data:
                raise InputError(
                    f"{item.path}: the column {column!r} holds no bytes.",
                    "Its image may be elsewhere: give a table with a column of paths.",
                )
            suffix = ".png" if written else ""
            file = folder / f"{len(written)}{suffix}"
            file.write_bytes(data)
            written.append(file)
        return written[0], item.label if len(written) == 1 else written[1].name

    def _said(self, value: Any, names: Sequence[str] | None, where: str) -> str | None:
        try:
            return label_text(value, self.task, names)
        except InputError as error:
            return format_faults([f"{where}: {error.message}"])

    def _image_column(self, schema: pa.Schema, file: str) -> str:
        column = image_column(schema, self.image_column)
        if column is None:
            named = f" {self.image_column!r}" if self.image_column else ""
            raise InputError(
                f"{file} has no column{named} of images, only {shorten_names(schema.names)}.",
                "Name the column that holds them: --path-column NAME. A table of paths is read "
                "from one file: give its name.",
            )
        return column

    def _label_column(self, schema: pa.Schema) -> tuple[str | None, Sequence[str] | None]:
        """Return the column of labels, and the names of its classes, if the file tells them."""
        usual: tuple[str, ...] = LABEL_COLUMNS
        if get_task(self.task).ground_truth is GroundTruthBoxes:
            usual = ("objects", "annotations", *LABEL_COLUMNS)
        name = choose_column(
            schema.names, self.label_column, usual, "--label-column", str(self.name)
        )
        return name, None if name is None else feature_names(_features(schema).get(name))


_IN_THE_ROW = "in the row"
"""Label of an item whose mask is in a column of its row."""


@contextmanager
def open_parquet(storage: Storage, file: str) -> Iterator[pq.ParquetFile]:
    """Give an open Parquet file; raises `InputError`."""
    with storage.opened(file) as stream:
        try:
            with pq.ParquetFile(stream) as opened:
                yield opened
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"Can't read {storage}/{file}: {error}.", "Is it a whole Parquet file?"
            ) from error


@lru_cache(maxsize=2)
def _row_group(storage: Storage, file: str, group: int, columns: tuple[str, ...]) -> pa.Table:
    with open_parquet(storage, file) as opened:
        return opened.read_row_group(group, columns=list(columns))


def holds_bytes(type_: pa.DataType) -> bool:
    """Say whether a column holds images: bytes, or a struct with them."""
    if pa.types.is_struct(type_):
        return any(type_.field(k).name == "bytes" for k in range(type_.num_fields))
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def image_column(schema: pa.Schema, given: str | None) -> str | None:
    """Return the column of a Parquet file that holds images, or None if there is none."""
    holding = [name for name in schema.names if holds_bytes(schema.field(name).type)]
    if given is not None:
        return given if given in holding else None
    usual = [name for name in holding if name.casefold() in PATH_COLUMNS]
    return next(
        iter(usual or [one for one in holding if one.casefold() not in LABEL_COLUMNS]), None
    )


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return what Hugging Face datasets wrote of the columns of a file."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])
        found: dict[str, Any] = said["info"]["features"]
        return found
    except (KeyError, ValueError, TypeError):
        return {}


def list_archives(storage: Storage, ending: str, pattern: str = "") -> tuple[str, ...]:
    """Return the files of an ending in a folder, sorted; those that a pattern matches, if given."""
    names = [name for name, is_folder in storage.entries().items() if not is_folder]
    if pattern:
        wanted = expand_braces(pattern)
        found = [name for name in names if any(PurePosixPath(name).match(one) for one in wanted)]
        missing = [one for one in wanted if "*" not in one and one not in names]
        if missing:
            raise InputError(
                f"Files not found in {storage}: {shorten_names(missing)}.", "Check the path."
            )
        return tuple(found)
    return tuple(name for name in names if name.lower().endswith(ending))
