"""Work of a run, as an engine executes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from cvx_engine import Work

from cvx_core import OutputError, VisionModel, get_task, write_atomic
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.manifest import NAME, Manifest
from cvx_diagnose.data.sources import Source
from cvx_diagnose.run.crash_journal import CrashJournal
from cvx_diagnose.run.inference.decoder import DecodedInput, Decoder
from cvx_diagnose.run.inference.row_builder import RowBuilder
from cvx_diagnose.run.plan import Plan
from cvx_diagnose.run.rows import CRASHED, Row, block_file, failed, schema_of, to_parquet

EXPLAINING = "explaining"


class DiagnosisWork(Work[Item, DecodedInput, Row]):
    """The work of one run, or of one shard of it.

    Parameters
    ----------
    model, source, plan
        The model, the data set, and the configuration.
    folder
        Of the run; the manifest is there.
    shard
        (i, n): the blocks whose number modulo n is i.
    timeout
        Seconds for decoding one input.
    """

    def __init__(
        self,
        model: VisionModel,
        source: Source,
        plan: Plan,
        folder: Path,
        shard: tuple[int, int] = (0, 1),
        timeout: float = 60.0,
    ) -> None:
        self.model, self.source, self.plan, self.folder = model, source, plan, folder
        self.shard, self.timeout = shard, timeout
        self.batch_size = plan.batch_size
        self.manifest = Manifest(folder / NAME, plan.block_size)
        self.journal: CrashJournal | None = CrashJournal(folder, shard)
        self._decoder = Decoder(source, model.preparer, located=not get_task(plan.task).whole_image)

    def pending(self) -> list[int]:
        """Return the blocks of this shard without a file."""
        i, n = self.shard
        blocks = range(i, self.manifest.blocks, n)
        return [block for block in blocks if not block_file(self.folder, block).exists()]

    @property
    def left(self) -> int:
        """Number of items in the pending blocks."""
        size, total = self.plan.block_size, len(self.manifest)
        # Only the last block of all may be shorter.
        return sum(min(size, total - block * size) for block in self.pending())

    def items(self, block: int) -> list[Item]:
        """Return the items of a block."""
        return self.manifest.items(block)

    def decode(self, item: Item) -> DecodedInput:
        """Return the network's input for an item; raises `InputError`."""
        return self._decoder(item)

    def decoder(self) -> Callable[[Item], DecodedInput]:
        """Return a function like `decode` that does not hold the network."""
        return self._decoder

    @property
    def device(self) -> str:
        """Device of the network."""
        return str(self.model.device)

    def to(self, device: str) -> None:
        """Move the network to a device."""
        self.model.to(device)

    def __getstate__(self) -> dict[str, object]:
        # On another machine the folder may not exist, and an engine that survives its processes
        # knows itself what ended them.
        return {**self.__dict__, "journal": None}

    def explain(self, batch: Sequence[DecodedInput]) -> list[Row]:
        """Return a row for each image."""
        if self.journal is None:
            return self._build_rows(batch)
        rows: list[Row] = []
        for ids in self.journal.split(EXPLAINING, tuple(one.item.id for one in batch)):
            part = [one for one in batch if one.item.id in ids]
            cause = self.journal.cause(EXPLAINING, ids)
            if cause is not None:
                message = (
                    f"The network crashed the process on this input ({cause}). Check the image."
                )
                rows += [self.failed(one.item, CRASHED, message) for one in part]
                continue
            with self.journal.in_flight(EXPLAINING, ids):
                rows += self._build_rows(part)
        return rows

    def failed(self, item: Item, status: str, message: str) -> Row:
        """Return the row of an input without a prediction."""
        return failed(item, status, message)

    def commit(self, block: int, rows: Sequence[Row]) -> None:
        """Write the rows of a block.

        Raises
        ------
        OutputError
            If there is not exactly one row for each item, or the disk refuses.
        """
        wanted, got = [item.id for item in self.items(block)], sorted(row["id"] for row in rows)
        if got != wanted:
            raise OutputError(
                f"Block {block} has {len(wanted)} inputs, but the engine returned {len(got)} rows "
                f"({len(set(got) ^ set(wanted))} ids missing, unknown or repeated).",
                "Report it to the engine's author; the block was not written.",
            )
        data = to_parquet(sorted(rows, key=lambda row: int(row["id"])), schema_of(self.plan))
        # An existing file was written with the same plan and holds the same rows.
        write_atomic(block_file(self.folder, block), data, overwrite=True)

    @cached_property
    def _build_rows(self) -> RowBuilder:
        return RowBuilder(self.model, self.plan)
