"""Sources from files: CSV, Parquet and COCO annotations."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cvx_annotations.coco import coco_images

from cvx_core import InputError, UsageError
from cvx_diagnose.data.items import Item, format_boxes
from cvx_diagnose.data.sources import FileSource, shorten_names

_WAY_OUT = "Give a column 'path', and a column 'label' with the true class or a file."


@dataclass(frozen=True)
class TableSource(FileSource):
    """A CSV with a header, or a Parquet file: the columns path and label, in the file's order.

    An empty label means unknown. Paths are relative to the root.
    """

    file: Path

    def items(self) -> Iterator[Item]:
        """Yield the rows in order."""
        rows = self._csv() if self.file.suffix.lower() == ".csv" else self._parquet()
        for i, (path, label) in enumerate(rows):
            if not path:
                raise InputError(f"{self.file}, row {i + 1}: the path is empty.", _WAY_OUT)
            yield Item(i, str(path), str(label) if label not in (None, "") else None)

    def _csv(self) -> Iterator[tuple[str, str | None]]:
        try:
            with self.file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
                lines = csv.DictReader(text)
                self._check(lines.fieldnames or [])
                for line in lines:
                    yield (line["path"] or "").strip(), (line.get("label") or "").strip()
        except (OSError, csv.Error) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error

    def _parquet(self) -> Iterator[tuple[Any, Any]]:
        try:
            with pq.ParquetFile(self.file) as opened:
                names = opened.schema_arrow.names
                self._check(names)
                columns = [name for name in ("path", "label") if name in names]
                for batch in opened.iter_batches(4096, columns=columns):
                    found = batch.to_pydict()
                    labels = found.get("label", [None] * len(batch))
                    yield from zip(found["path"], labels, strict=True)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"Can't read {self.file}: {error}.", _WAY_OUT) from error

    def _check(self, names: Any) -> None:
        if "path" not in names:
            raise InputError(
                f"{self.file} has no column 'path', only {shorten_names(list(names))}.", _WAY_OUT
            )


@dataclass(frozen=True)
class CocoSource(FileSource):
    """The images of a COCO file of instances, in the file's order."""

    file: Path

    def items(self) -> Iterator[Item]:
        """Yield the images with their boxes."""
        for i, (name, boxes) in enumerate(coco_images(self.file, self.classes)):
            yield Item(i, name, format_boxes(boxes))


def open_coco(
    file: Path, images: Path | None, task: str, classes: tuple[str, ...] | None
) -> CocoSource:
    """Return the source for a COCO file; unless named, the folder of its images is searched nearby.

    Raises
    ------
    UsageError
        If the images are not found.
    """
    name = next((name for name, _ in coco_images(file, classes)), "")
    here = file.absolute().parent
    near = [here, here / "images", here.parent / "images", here.parent]
    near += [base / file.stem.rpartition("_")[2] for base in (here, here.parent)]
    for root in [images] if images is not None else near:
        if (root / name).is_file():
            return CocoSource(str(file), task, classes, root, file)
    raise UsageError(
        f"Images of {file} not found: {name!r} is neither beside it nor in a folder nearby.",
        "Give their folder: --images DIR.",
    )
