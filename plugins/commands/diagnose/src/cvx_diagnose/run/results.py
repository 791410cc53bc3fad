"""Results of a run on disk, finished or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cvx_core import OutputError
from cvx_diagnose.data.manifest import NAME, Manifest
from cvx_diagnose.data.sources import Source
from cvx_diagnose.run.plan import Plan
from cvx_diagnose.run.rows import block_file, schema_of

SUMMARY = "summary.json"


class Run:
    """A run written by ``cvx diagnose``.

    Parameters
    ----------
    folder
        Of the run.

    Attributes
    ----------
    folder, plan
        The folder, and the configuration of the run.

    Raises
    ------
    OutputError
        If the folder holds no run.

    Examples
    --------
    >>> run = Run("cvx-diagnose")                                            # doctest: +SKIP
    >>> run.table(["path", "loss"], wrong=True).sort_by("loss")              # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.plan = Plan.read(self.folder)
        self.manifest = Manifest(self.folder / NAME, self.plan.block_size)

    @property
    def done(self) -> list[int]:
        """Numbers of the finished blocks."""
        return [k for k in range(self.manifest.blocks) if block_file(self.folder, k).exists()]

    @property
    def pending(self) -> list[int]:
        """Numbers of the blocks still to be done."""
        return [k for k in range(self.manifest.blocks) if not block_file(self.folder, k).exists()]

    @property
    def summary(self) -> dict[str, Any] | None:
        """Contents of ``summary.json``; None before all blocks are done, or if it is damaged."""
        try:
            found: dict[str, Any] = json.loads((self.folder / SUMMARY).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return schema_of(self.plan)

    def blocks(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of one block after the other, in order.

        Parameters
        ----------
        columns
            Names of the columns to read; None reads all.

        Raises
        ------
        OutputError
            If a file is damaged.
        """
        for block in self.done:
            file = block_file(self.folder, block)
            try:
                yield pq.read_table(file, columns=None if columns is None else list(columns))
            except (OSError, pa.ArrowException) as error:
                raise OutputError(
                    f"Can't read {file}: {error}.",
                    "Delete it and resume the run: --resume.",
                ) from error

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        wrong: bool | None = None,
        status: str | None = None,
    ) -> pa.Table:
        """Return rows as one table, in order.

        Parameters
        ----------
        columns
            Names of the columns to read; None reads all.
        wrong
            True for rows with an error, False for rows without; None for all rows, including those
            without a label or a prediction.
        status
            Only rows of this status.
        """
        names = self.schema.names if columns is None else list(columns)
        read = list(dict.fromkeys([*names, "correct", "status"]))
        found = []
        for table in self.blocks(read):
            keep = np.ones(len(table), dtype=bool)
            if wrong is not None:
                correct = table["correct"].to_pylist()
                keep &= np.array([one is (not wrong) for one in correct], dtype=bool)
            if status is not None:
                keep &= np.array([one == status for one in table["status"].to_pylist()], dtype=bool)
            found.append(table.filter(pa.array(keep)).select(names))
        empty = pa.schema([self.schema.field(name) for name in names]).empty_table()
        return pa.concat_tables(found) if found else empty

    def numbers(self, table: pa.Table, column: str) -> npt.NDArray[np.float32]:
        """Return a column of maps (n, h, w), features or logits (n, F) as an array; nan where null.

        Parameters
        ----------
        table
            Of this run, with the column.
        """
        field = self.schema.field(column).type
        tensor = isinstance(field, pa.BaseExtensionType)
        size = (field.storage_type if tensor else field).list_size
        shape = tuple(field.shape) if tensor else (size,)
        found = np.full((len(table), size), np.nan, dtype=np.float32)
        at = 0
        for chunk in table[column].chunks:
            lists = chunk.storage if tensor else chunk
            there = np.asarray(lists.is_valid())
            found[at : at + len(lists)][there] = (
                lists.drop_null().flatten().to_numpy().reshape(-1, size)
            )
            at += len(lists)
        return found.reshape(len(table), *shape)

    def image(self, number: int, source: Source) -> Image.Image:
        """Return an input's image, read again.

        Parameters
        ----------
        number
            Its id.
        source
            The data set; see `cvx_diagnose.open_source`.

        Raises
        ------
        InputError
            If it can't be read.
        OutputError
            If the input is a tensor.
        """
        loaded, _ = source.load(self.manifest.find(number))
        if not hasattr(loaded, "pil"):
            raise OutputError(f"Input {number} is a tensor, not an image.")
        return loaded.pil()
