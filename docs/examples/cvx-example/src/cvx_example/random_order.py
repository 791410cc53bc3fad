"""Engine: blocks in random order, so that a run that is stopped early is a random sample."""

from dataclasses import dataclass
from random import Random
from typing import Any

from cvx_engine import DecoderPool, Engine, Listener, Work, explain_batch

from cvx_core import OptionError


@dataclass(frozen=True)
class RandomOrder(Engine):
    """Runs one block after the other, in random order.

    Parameters
    ----------
    seed
        Of the order.
    workers
        Processes that decode, 1 or more.
    """

    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise OptionError(f"workers must be at least 1, got {self.workers}.")

    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        """Run the blocks that are pending; see `cvx_engine.Engine.run`."""
        blocks = list(work.pending())
        if not blocks:
            return
        Random(self.seed).shuffle(blocks)
        with DecoderPool(work.decoder(), work.timeout, self.workers) as decoders:
            for block in blocks:
                if listener.stop:
                    return
                rows: list[Any] = []
                for batch in work.batches(block):
                    decoders.submit(batch)
                    rows += explain_batch(work, batch, map(decoders.take, batch))
                    listener.advanced(len(batch))
                work.commit(block, rows)
                listener.done(block, rows)
