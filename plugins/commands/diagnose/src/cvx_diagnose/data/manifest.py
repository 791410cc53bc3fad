"""Manifest of a run: all inputs in one file, read block by block."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cvx_core import OutputError, UsageError, printable
from cvx_diagnose.data.items import Item, format_faults
from cvx_diagnose.data.sources import Source

NAME = "manifest.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        # Bytes: a file's name need not be valid text.
        ("path", pa.binary()),
        ("label", pa.string()),
    ]
)
_TOGETHER = 4096


def select_items(source: Source, limit: int | None) -> tuple[int, Iterable[Item]]:
    """Return how many items a source has, and the selected ones.

    A limit selects items at equal distances over the whole source: where classes are folders, the
    first ones would all be of one class.
    """
    total = sum(1 for _ in source.items())
    if total == 0:
        raise UsageError(
            f"No inputs found in {source.name}.",
            "Give a folder with one sub-folder of images per class, a folder that contains images/ "
            "and masks/, labels/ or Annotations/, or a table with the columns path and label; see "
            "'cvx diagnose --help'.",
        )
    if limit is None or limit >= total:
        return total, source.items()
    wanted = {k * total // limit for k in range(limit)}
    return total, (item for item in source.items() if item.id in wanted)


def write_manifest(
    items: Iterable[Item], into: Path | None = None, renamed: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Return size and digest of a manifest of items; write it too if a file is given.

    The digest is the SHA-256 over ids, paths and labels and over renamed classes, its first 16
    hexadecimal digits.

    Raises
    ------
    OutputError
        If the file can't be written.
    """
    digest, count = hashlib.sha256(), 0
    if renamed:
        digest.update(repr(sorted(renamed.items())).encode("utf-8", "surrogateescape"))
    writer = None
    stream = iter(items)
    try:
        if into is not None:
            writer = pq.ParquetWriter(into, SCHEMA, compression="zstd")
        while some := list(islice(stream, _TOGETHER)):
            rows = [(one.id, _encoded(one.path), _as_text(one)) for one in some]
            digest.update(repr(rows).encode("utf-8", "surrogateescape"))
            count += len(rows)
            if writer is not None:
                columns = [list(column) for column in zip(*rows, strict=True)]
                writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=_TOGETHER)
        if writer is not None:
            writer.close()
    except OSError as error:
        raise OutputError(
            f"Can't write {into}: {error.strerror or error}.",
            "Free disk space, or choose another folder with -o.",
        ) from error
    return count, digest.hexdigest()[:16]


def _encoded(path: str) -> bytes:
    """Return a path's bytes; of one that no file can have, with escapes, so that it isn't found."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return path.encode("utf-8", "backslashreplace")


def _as_text(item: Item) -> str | None:
    """Return an item's label, or the fault that it is no text."""
    try:
        if item.label is not None:
            item.label.encode()
    except UnicodeEncodeError:
        fault = f"{item.display_path}: the label {printable(item.label or '')!r} is not UTF-8 text."
        return format_faults([f"{fault} Save the labels as UTF-8."])
    return item.label


class Manifest:
    """The items of a run, by block.

    Parameters
    ----------
    file
        A Parquet file as written by `write_manifest`.
    block_size
        Items in a block.
    """

    def __init__(self, file: Path, block_size: int) -> None:
        self.file, self.block_size = file, block_size
        self._opened: pq.ParquetFile | None = None
        self._group: tuple[int, pa.Table | None] = (-1, None)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None, "_group": (-1, None)}

    def __len__(self) -> int:
        return int(self._parquet.metadata.num_rows)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-len(self) // self.block_size)

    def items(self, block: int) -> list[Item]:
        """Return the items of a block."""
        start = block * self.block_size
        return list(self._between(start, min(start + self.block_size, len(self))))

    def find(self, number: int) -> Item:
        """Return the item with an id.

        Raises
        ------
        UsageError
            If there is none.
        """
        # Ids are sorted: items at equal distances have larger ones than their positions.
        low = bisect_left(range(len(self)), number, key=self._id)
        if low < len(self) and self._id(low) == number:
            return next(self._between(low, low + 1))
        raise UsageError(f"The run has no input with id {number}.", "See the column 'id'.")

    @property
    def _parquet(self) -> pq.ParquetFile:
        if self._opened is None:
            try:
                self._opened = pq.ParquetFile(self.file)
            except (OSError, pa.ArrowException) as error:
                raise OutputError(
                    f"Can't read {self.file}: {error}.", "Start the run again."
                ) from error
        return self._opened

    def _id(self, position: int) -> int:
        return int(self._rows(position // _TOGETHER)["id"][position % _TOGETHER].as_py())

    def _rows(self, group: int) -> pa.Table:
        if self._group[0] != group:
            self._group = group, self._parquet.read_row_group(group)
        table = self._group[1]
        assert table is not None
        return table

    def _between(self, start: int, stop: int) -> Iterator[Item]:
        while start < stop:
            group = start // _TOGETHER
            end = min(stop, (group + 1) * _TOGETHER)
            part = self._rows(group).slice(start - group * _TOGETHER, end - start).to_pydict()
            for number, path, label in zip(*part.values(), strict=True):
                yield Item(number, os.fsdecode(path), label)
            start = end
