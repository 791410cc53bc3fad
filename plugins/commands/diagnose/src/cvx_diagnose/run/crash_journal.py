"""Which inputs the network is busy with, should it end its process, and which have ended it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Ids = tuple[int, ...]


class Journal:
    """Notes beside a run, of one shard of it.

    Inputs during which the process ended are from then on explained in halves, until the one that
    ends it is alone; that one is not tried again.

    Parameters
    ----------
    folder
        Of the run.
    shard
        (i, n).
    """

    def __init__(self, folder: Path, shard: tuple[int, int]) -> None:
        name = "{}-of-{}.json".format(*shard)
        self._busy, self._known = folder / f"in-flight-{name}", folder / f"crashes-{name}"
        self._crashes: dict[tuple[str, Ids], str] = {}
        with suppress(OSError, ValueError):
            for one in json.loads(self._known.read_bytes()):
                self._crashes[one["doing"], tuple(one["ids"])] = one["cause"]

    @contextmanager
    def noting(self, doing: str, ids: Ids) -> Iterator[None]:
        """Note what is being done, and with which inputs, until it is over or raises."""
        # Whoever reads it finds the process ended, and then either file is as good; a disk that is
        # full will be complained of where something is lost by it.
        with suppress(OSError):
            self._busy.write_text(json.dumps({"doing": doing, "ids": ids}))
        try:
            yield
        finally:
            self.forget()

    def forget(self) -> None:
        """Take back what was noted last."""
        with suppress(OSError):
            self._busy.unlink()

    def parts(self, doing: str, ids: Ids) -> list[Ids]:
        """Return inputs in the parts in which they are taken: together, unless that ended badly."""
        if len(ids) < 2 or (doing, ids) not in self._crashes:
            return [ids]
        middle = len(ids) // 2
        return [*self.parts(doing, ids[:middle]), *self.parts(doing, ids[middle:])]

    def cause(self, doing: str, ids: Ids) -> str | None:
        """Return what ended the process when this was done, or None if nothing did."""
        return self._crashes.get((doing, ids))

    def ended(self, cause: str) -> tuple[str, Ids] | None:
        """Note that the process was ended, and return what it was doing; None if nothing.

        Parameters
        ----------
        cause
            By what, as in ``SIGSEGV``.
        """
        try:
            found: dict[str, Any] = json.loads(self._busy.read_bytes())
            busy = str(found["doing"]), tuple(found["ids"])
        except (OSError, ValueError, KeyError):
            return None
        self._crashes[busy] = cause
        result = [{"doing": d, "ids": ids, "cause": by} for (d, ids), by in self._crashes.items()]
        temporary = self._known.with_name(f".cvx-{self._known.name}")
        temporary.write_text(json.dumps(result))
        temporary.replace(self._known)
        self.forget()
        return busy


def chosen(batch: Sequence[Any], ids: Ids) -> list[Any]:
    """Return those of a batch that have these numbers."""
    return [one for one in batch if one.item.id in ids]
