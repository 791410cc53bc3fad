"""Region tests of a run: after all predictions, in the errors whose labels are not suspected."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

import pyarrow as pa
import pyarrow.parquet as pq

from cvx_core import OutputError
from cvx_diagnose.run.inference.region_tests import (
    RegionTests,
    costliest_errors,
    say_untested,
    tested_errors,
)
from cvx_diagnose.run.rows import Row, block_file, is_tested, update_rows
from cvx_diagnose.run.work import DiagnosisWork

TESTING = "testing regions in the errors of"

_READ = ("id", "status", "message", "correct", "loss", "tested")


class RegionPhase:
    """Tests regions in the most costly errors of each block, within the budget of the run.

    Which labels are suspected is known only when all rows are there; therefore the rows of a block
    are written again, with its tests. An interrupted run resumes with the next block.

    Parameters
    ----------
    work
        The work of a run whose blocks are all there.
    suspects
        Ids of inputs with suspected labels: a wrong label is no error of the model.
    """

    def __init__(self, work: DiagnosisWork, suspects: Collection[int]) -> None:
        self.work, self.suspects = work, set(suspects)
        self._tests = RegionTests(work.model)

    def pending(self) -> list[int]:
        """Return the blocks without tests; none if none are wanted."""
        plan = self.work.plan
        if plan.budget <= 0 or plan.map_shape is None:
            return []
        blocks = range(self.work.manifest.blocks)
        return [block for block in blocks if not is_tested(block_file(self.work.folder, block))]

    def run(self, block: int) -> None:
        """Test regions in a block, and write its rows.

        Raises
        ------
        OutputError
            If the block can't be read or written.
        """
        file = block_file(self.work.folder, block)
        try:
            rows: list[Row] = pq.read_table(file, columns=list(_READ)).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                f"Can't read {file}: {error}.", "Delete it and resume the run: --resume."
            ) from error
        count = tested_errors(self.work.plan.budget, len(rows))
        errors = [row for row in rows if row["id"] not in self.suspects]
        chosen = costliest_errors(errors, count)
        items = {item.id: item for item in self.work.items(block)}
        journal = self.work.journal
        for row in chosen:
            ids = (int(row["id"]),)
            # An input that ended the process is not tried again.
            cause = None if journal is None else journal.cause(TESTING, ids)
            if cause is not None:
                say_untested(row, f"The test ended the process ({cause}).")
                continue
            with nullcontext() if journal is None else journal.in_flight(TESTING, ids):
                self._tests.add(row, lambda number: self.work.prepared(items[number]))
        update_rows(file, chosen)
