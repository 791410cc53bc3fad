"""State of each batch: waiting, done, tried again, or tried item by item.

Nothing in here knows of Ray. Whatever ends, an item is either on its way or has its row.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from cvx_engine import Listener, Work

TRIES = 2
"""How often a batch, or an item alone, may end the process that works on it."""


@dataclass(eq=False)
class Portion:
    """Items that are decoded and explained together: a batch, or an item alone.

    Attributes
    ----------
    block, place
        Which batch of which block.
    items
        The items; those that end their process are taken out.
    whole
        The batch that an item alone is of, or None.
    tries
        How many processes have ended over it.
    alone
        How many of its items are still tried alone.
    lost
        Rows of the items that end their process.
    spare
        Rows that the others got alone.
    """

    block: int
    place: int
    items: list[Any]
    whole: Portion | None = None
    tries: int = 0
    alone: int = 0
    lost: list[Any] = field(default_factory=list)
    spare: list[Any] = field(default_factory=list)


class BatchTracker:
    """Hands out portions, and gathers their rows until a block has them all.

    A batch that ends its process twice is looked through: each of its items is tried alone, and
    those that end their process twice are ``"crashed"``. The batch is then explained without them,
    so that the others have the values that they have wherever such an item was found out earlier.

    Parameters
    ----------
    work, listener
        What is to be done, and who hears of it and may stop it.
    """

    def __init__(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        self._work, self._listener = work, listener
        self._blocks = deque(work.pending())
        self._waiting: deque[Portion] = deque()
        self._rows: dict[int, list[list[Any] | None]] = {}
        self.begun: list[int] = []
        """Blocks that were begun, in order."""
        self.gathered: deque[tuple[int, list[Any]]] = deque()
        """Blocks with the rows of all their items."""

    def next(self) -> Portion | None:
        """Return what is to be worked on next, or None if there is nothing at the moment."""
        if not self._waiting and self._blocks and not self._listener.stop:
            block = self._blocks.popleft()
            batches = self._work.batches(block)
            self.begun.append(block)
            self._rows[block] = [None] * len(batches)
            self._waiting.extend(Portion(block, k, batch) for k, batch in enumerate(batches))
        return self._waiting.popleft() if self._waiting else None

    @property
    def unfinished(self) -> bool:
        """Whether anything that is to be done has no rows yet."""
        more = bool(self._blocks) and not self._listener.stop
        return more or bool(self._rows) or bool(self.gathered)

    def again(self, portion: Portion) -> None:
        """Have a portion worked on again, before all that waits."""
        self._waiting.appendleft(portion)

    def done(self, portion: Portion, rows: list[Any]) -> None:
        """Take a portion's rows."""
        if portion.whole is None:
            self._fill(portion, portion.lost + rows)
        else:
            portion.whole.spare += rows
            self._tried_alone(portion.whole)

    def died(self, portion: Portion) -> None:
        """Note that the process that worked on a portion has ended."""
        portion.tries += 1
        if portion.tries < TRIES:
            self.again(portion)
        elif portion.whole is not None:
            [item] = portion.items
            portion.whole.items.remove(item)
            portion.whole.lost.append(
                self._work.failed(
                    item,
                    "crashed",
                    f"It ended the process that worked on it, {TRIES} times. Look at the file; the "
                    "others went on.",
                )
            )
            self._tried_alone(portion.whole)
        elif portion.spare:
            # Only together do they end it: what each got alone is the best there is.
            self._fill(portion, portion.lost + portion.spare)
        else:
            portion.alone = len(portion.items)
            for item in reversed(portion.items):
                self.again(Portion(portion.block, portion.place, [item], whole=portion))

    def _tried_alone(self, whole: Portion) -> None:
        whole.alone -= 1
        if whole.alone == 0:
            whole.tries = 0
            if whole.items:
                self.again(whole)
            else:
                self._fill(whole, whole.lost)

    def _fill(self, portion: Portion, rows: list[Any]) -> None:
        self._listener.advanced(len(rows))
        places = self._rows[portion.block]
        places[portion.place] = rows
        if all(one is not None for one in places):
            del self._rows[portion.block]
            self.gathered.append((portion.block, [row for one in places for row in one or ()]))
