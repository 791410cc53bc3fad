"""The work of a run, as an engine is handed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import torch
from cvx_engine import Work

from cvx_core import OutputError, VisionModel, write_atomic
from cvx_core.images import PreparedImage
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.decoder import Decoded, Decoder
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.manifest import NAME, Manifest
from cvx_diagnose.data.sources import Source
from cvx_diagnose.run.crash_journal import Journal, chosen
from cvx_diagnose.run.inference.region_tests import Interventions, note, tested_errors
from cvx_diagnose.run.inference.row_builder import Explaining
from cvx_diagnose.run.plan import Plan
from cvx_diagnose.run.rows import CRASHED, Row, block_file, failed, schema_of, to_parquet, to_table

EXPLAINING, TESTING = "explaining", "removing regions from the errors of"


class Diagnosis(Work[Item, Decoded, Row]):
    """The work of one run, or of one shard of it.

    Parameters
    ----------
    model, source, plan
        With what, of what, and what is asked.
    folder
        Of the run; the manifest is there.
    shard
        (i, n): of the blocks, those whose number leaves i when divided by n.
    timeout
        Seconds that decoding one input may take.
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
        self.journal: Journal | None = Journal(folder, shard)
        self._decoder = Decoder(source, model.preparer, located=plan.task != "classification")

    def blocks(self) -> list[int]:
        """Return the blocks of this shard."""
        i, n = self.shard
        return list(range(i, self.manifest.blocks, n))

    def pending(self) -> list[int]:
        """Return the blocks of this shard that have no file."""
        return [block for block in self.blocks() if not block_file(self.folder, block).exists()]

    @property
    def left(self) -> int:
        """How many items are in the blocks that are pending."""
        blocks = self.pending()
        # Only the last block of all may be shorter.
        short = self.manifest.blocks * self.plan.block_size - len(self.manifest)
        return len(blocks) * self.plan.block_size - (
            short if self.manifest.blocks - 1 in blocks else 0
        )

    def items(self, block: int) -> list[Item]:
        """Return the items of a block."""
        return self.manifest.items(block)

    def decode(self, item: Item) -> Decoded:
        """Return what the network takes; raises `InputError`."""
        return self._decoder(item)

    def decoder(self) -> Callable[[Item], Decoded]:
        """Return what does `decode`, without the network."""
        return self._decoder

    @property
    def device(self) -> str:
        """Where the network is."""
        return str(self.model.device)

    def to(self, device: str) -> None:
        """Bring the network to a device."""
        self.model.to(device)

    def __getstate__(self) -> dict[str, object]:
        # Elsewhere the folder may not be there, and an engine that outlives its processes knows by
        # itself what ended them.
        return {**self.__dict__, "journal": None}

    def explain(self, batch: Sequence[Decoded]) -> list[Row]:
        """Return a row for each image."""
        if self.journal is None:
            return self._explaining(batch)
        rows: list[Row] = []
        for ids in self.journal.parts(EXPLAINING, tuple(one.item.id for one in batch)):
            part = chosen(batch, ids)
            cause = self.journal.cause(EXPLAINING, ids)
            if cause is not None:
                message = f"The network ended its process on it ({cause}). Look at the image."
                rows += [self.failed(one.item, CRASHED, message) for one in part]
                continue
            with self.journal.noting(EXPLAINING, ids):
                rows += self._explaining(part)
        return rows

    def complete(self, items: Sequence[Item], rows: Sequence[Row]) -> None:
        """Remove regions in the errors of a block that cost most, within the budget."""
        count = tested_errors(self.plan.budget, len(rows))
        if not count or self.plan.map_shape is None:
            return
        known = {item.id: item for item in items}
        ids = tuple(known)
        # What ended the process is not tried again.
        cause = None if self.journal is None else self.journal.cause(TESTING, ids)
        if cause is not None:
            self.not_completed(rows, f"It ended the process ({cause}).")
            return
        with nullcontext() if self.journal is None else self.journal.noting(TESTING, ids):
            self._interventions.add(rows, count, lambda number: self._prepared(known[number]))

    def not_completed(self, rows: Sequence[Row], why: str) -> None:
        """Note in the rows that would have been tested that they were not."""
        note(rows, tested_errors(self.plan.budget, len(rows)), why)

    def failed(self, item: Item, status: str, message: str) -> Row:
        """Return the row of an input that has no answer."""
        return failed(item, status, message)

    def commit(self, block: int, rows: Sequence[Row]) -> None:
        """Write the rows of a block.

        Raises
        ------
        OutputError
            If it isn't one row for each item, or the disk refuses.
        """
        wanted, got = [item.id for item in self.items(block)], sorted(row["id"] for row in rows)
        if got != wanted:
            raise OutputError(
                f"Block {block} has {len(wanted)} inputs, and the engine gave {len(got)} rows "
                f"({len(set(got) ^ set(wanted))} of them others, or twice).",
                "Report it to the engine's author; nothing of the block was kept.",
            )
        table = to_table(sorted(rows, key=lambda row: int(row["id"])), schema_of(self.plan))
        # What is there was written by the same plan, so that it holds the same.
        write_atomic(block_file(self.folder, block), to_parquet(table), overwrite=True)

    @cached_property
    def _interventions(self) -> Interventions:
        return Interventions(self.model)

    @cached_property
    def _explaining(self) -> Explaining:
        return Explaining(self.model, self.plan)

    def _prepared(self, item: Item) -> tuple[PreparedImage, GroundTruth | None]:
        loaded, truth = self.source.load(item)
        images = loaded[None] if isinstance(loaded, torch.Tensor) else [loaded]
        return self.model.prepare(images)[0], truth
