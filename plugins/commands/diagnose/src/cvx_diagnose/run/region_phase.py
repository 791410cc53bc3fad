"""Region tests of a run: after all predictions, in the errors whose labels are not suspected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from cvx_engine import Work

from cvx_core import CvxError, OutputError
from cvx_core.images import SourceImage
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.sources import Source
from cvx_diagnose.run.inference.region_tests import (
    costliest_errors,
    say_untested,
    tested_errors,
    tested_regions,
)
from cvx_diagnose.run.rows import Row, block_file, is_tested, update_rows
from cvx_diagnose.run.work import DiagnosisWork

TESTING = "testing regions in the errors of"

_READ = ("id", "status", "message", "correct", "loss", "tested")
_UNTESTED = "untested"
"""Why no region was tested, in the rows that an engine returns."""

Loaded = tuple[Item, SourceImage | torch.Tensor, GroundTruth | None]


class _Loader:
    """Reads the image and the ground truth of an item."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __call__(self, item: Item) -> Loaded:
        return (item, *self.source.load(item))


class RegionWork(Work[Item, Loaded, Row]):
    """Tests of regions in the most costly errors of each block, within the budget of the run.

    Which labels are suspected is known only when all rows are there; therefore the rows of a block
    are written again, with its tests. An interrupted run resumes with the next block.

    Parameters
    ----------
    work
        The work of a run whose blocks are all there.
    suspects
        Ids of inputs with suspected labels: a wrong label is no error of the model.

    Raises
    ------
    OutputError
        If a block can't be read or written.
    """

    batch_size = 1

    def __init__(self, work: DiagnosisWork, suspects: Collection[int]) -> None:
        self.work, self.timeout = work, work.timeout
        self._rows: dict[int, list[Row]] = {}
        plan = work.plan
        if plan.budget <= 0 or plan.map_shape is None:
            return
        for block in range(work.manifest.blocks):
            if not is_tested(block_file(work.folder, block)):
                self._rows[block] = self._chosen(block, set(suspects))
                if not self._rows[block]:
                    self.commit(block, [])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_rows": {}}

    def pending(self) -> list[int]:
        """Return the blocks without tests; none if none are wanted."""
        return sorted(self._rows)

    @property
    def left(self) -> int:
        """Number of errors to test."""
        return sum(map(len, self._rows.values()))

    def items(self, block: int) -> list[Item]:
        """Return the items of a block whose errors are tested."""
        wanted = {row["id"] for row in self._rows[block]}
        return [item for item in self.work.items(block) if item.id in wanted]

    def decode(self, item: Item) -> Loaded:
        """Return an item with its image and its ground truth; raises `InputError`."""
        return self.decoder()(item)

    def decoder(self) -> Callable[[Item], Loaded]:
        """Return a function like `decode` that does not hold the network."""
        return _Loader(self.work.source)

    @property
    def device(self) -> str:
        """Device of the network."""
        return self.work.device

    def to(self, device: str) -> None:
        """Move the network to a device."""
        self.work.to(device)

    def explain(self, batch: Sequence[Loaded]) -> list[Row]:
        """Return for each what its region tests found, or why there are none."""
        return [self._tested(*one) for one in batch]

    def failed(self, item: Item, status: str, message: str) -> Row:  # noqa: ARG002 - of the base
        """Return why an error was not tested."""
        return {"id": item.id, _UNTESTED: message}

    def commit(self, block: int, rows: Sequence[Row]) -> None:
        """Write the rows of a block with the results."""
        known = {row["id"]: row for row in self._rows[block]}
        for row in rows:
            mine = known[row["id"]]
            why = row.pop(_UNTESTED, None)
            mine |= row
            if why is not None:
                say_untested(mine, why)
        update_rows(block_file(self.work.folder, block), list(known.values()))
        del self._rows[block]

    def _chosen(self, block: int, suspects: set[int]) -> list[Row]:
        file = block_file(self.work.folder, block)
        try:
            rows: list[Row] = pq.read_table(file, columns=list(_READ)).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                f"Can't read {file}: {error}.", "Delete it and resume the run: --resume."
            ) from error
        count = tested_errors(self.work.plan.budget, len(rows))
        return costliest_errors([row for row in rows if row["id"] not in suspects], count)

    def _tested(self, item: Item, loaded: Any, ground_truth: GroundTruth | None) -> Row:
        journal, ids = self.work.journal, (item.id,)
        # An input that ended the process is not tried again.
        cause = None if journal is None else journal.cause(TESTING, ids)
        if cause is not None:
            return {"id": item.id, _UNTESTED: f"The test ended the process ({cause})."}
        with nullcontext() if journal is None else journal.in_flight(TESTING, ids):
            try:
                images = loaded[None] if isinstance(loaded, torch.Tensor) else [loaded]
                image = self.work.model.prepare(images)[0]
                return {"id": item.id, **tested_regions(self.work.model, image, ground_truth)}
            except CvxError as error:
                return {"id": item.id, _UNTESTED: error.message}
