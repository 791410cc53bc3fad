"""Engine of one machine: processes decode ahead, and this process explains."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cvx_core import OptionError
from cvx_engine import Engine, Listener, Work
from cvx_engine.pool import DecoderPool, explain_batch

AHEAD = 4
"""Batches that are decoded, or being decoded, while one is explained."""


@dataclass(frozen=True)
class Local(Engine):
    """Runs in this process, with others that decode.

    Parameters
    ----------
    workers
        Processes that decode; none: one for each core but one, 16 at most.

    Raises
    ------
    OptionError
        If workers isn't a positive integer.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and (not isinstance(self.workers, int) or self.workers < 1):
            raise OptionError(f"workers must be a positive integer, got {self.workers!r}.")

    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        """Do all blocks that are pending."""
        blocks = work.pending()
        if not blocks:
            return
        with DecoderPool(work.decoder(), work.timeout, self.workers or _cores()) as decoders:
            coming = (batch for block in blocks for batch in work.batches(block))
            # Batches of later blocks are decoded ahead too.
            for batch in islice(coming, AHEAD):
                decoders.submit(batch)
            for block in blocks:
                if listener.stop:
                    return
                rows: list[Any] = []
                for batch in work.batches(block):
                    rows += explain_batch(work, batch, map(decoders.take, batch))
                    decoders.submit(next(coming, []))
                    listener.advanced(len(batch))
                work.commit(block, rows)
                listener.done(block, rows)


def _cores() -> int:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    )
    return max(1, min(16, cores - 1))
