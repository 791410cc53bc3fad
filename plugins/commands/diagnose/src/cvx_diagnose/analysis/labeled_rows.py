"""Labeled rows of a run, read block by block: a run may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import OK

Numbers = npt.NDArray[Any]
Whole = npt.NDArray[np.int64]

_TOGETHER = 4096
"""Rows returned at once."""


class LabeledRows:
    """The inputs of a run with a prediction and a label, by their positions among these.

    Parameters
    ----------
    run
        Of a classifier.

    Attributes
    ----------
    labels
        (n,), classes. All else is read on demand.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        labels = [table["label"].to_numpy() for table in self._tables(["label"])]
        self.labels = np.concatenate([np.zeros(0), *labels]).astype(np.int64)

    def chunks(self, column: str) -> Iterator[tuple[slice, Numbers]]:
        """Yield some thousand rows at a time: their slice, and a column (m, F) in float32."""
        at = 0
        for table in self._several(column):
            yield slice(at, at + len(table)), self.run.numbers(table, column)
            at += len(table)

    def gather(self, column: str, positions: Whole) -> Numbers:
        """Return a column of some rows, (m, F), in one pass over all."""
        return self.run.numbers(self._take([column], positions), column)

    def column(self, name: str) -> list[Any]:
        """Return a column of all rows as a list."""
        return [one for table in self._tables([name]) for one in table[name].to_pylist()]

    def records(self, positions: Whole, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return columns of some rows, a mapping for each."""
        found: list[dict[str, Any]] = self._take(columns, positions).to_pylist()
        return found

    def _take(self, columns: Sequence[str], positions: Whole) -> pa.Table:
        order = np.argsort(positions, kind="stable")
        wanted, at = positions[order], 0
        found = []
        for table in self._tables(columns):
            here = wanted[slice(*np.searchsorted(wanted, (at, at + len(table))))] - at
            found.append(table.select(list(columns)).take(here))
            at += len(table)
        return pa.concat_tables(found).take(np.argsort(order))

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for table in self.run.blocks(list(dict.fromkeys([*columns, "label", "status"]))):
            yield table.filter(pc.and_(pc.equal(table["status"], OK), table["label"].is_valid()))

    def _several(self, column: str) -> Iterator[pa.Table]:
        kept: list[pa.Table] = []
        for table in self._tables([column]):
            kept.append(table)
            if sum(map(len, kept)) >= _TOGETHER:
                yield pa.concat_tables(kept)
                kept = []
        if kept:
            yield pa.concat_tables(kept)
