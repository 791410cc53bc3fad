"""Journal of crashes: the inputs in flight when the network crashed the process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Ids = tuple[int, ...]


class CrashJournal:
    """A journal of one shard, beside the run.

    Inputs in flight when the process ended are explained in halves from then on, until the input
    that ends the process is alone; that input is not tried again.

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
        with suppress(OSError, ValueError, KeyError, TypeError):
            for one in json.loads(self._known.read_bytes()):
                self._crashes[one["stage"], tuple(one["ids"])] = one["cause"]

    @contextmanager
    def in_flight(self, stage: str, ids: Ids) -> Iterator[None]:
        """Record a stage and its inputs until the block ends or raises."""
        # It is read only after the process has ended, so a partial write is harmless. A full disk
        # is reported where it loses data.
        with suppress(OSError):
            self._busy.write_text(json.dumps({"stage": stage, "ids": ids}))
        try:
            yield
        finally:
            self.forget()

    def forget(self) -> None:
        """Remove the record of the inputs in flight."""
        with suppress(OSError):
            self._busy.unlink()

    def split(self, stage: str, ids: Ids) -> list[Ids]:
        """Return the parts in which to process inputs: all together, unless that crashed before."""
        if len(ids) < 2 or (stage, ids) not in self._crashes:
            return [ids]
        middle = len(ids) // 2
        return [*self.split(stage, ids[:middle]), *self.split(stage, ids[middle:])]

    def cause(self, stage: str, ids: Ids) -> str | None:
        """Return what ended the process in this stage, or None."""
        return self._crashes.get((stage, ids))

    def record_crash(self, cause: str) -> tuple[str, Ids] | None:
        """Record that the process ended; return the stage and inputs in flight, or None.

        Parameters
        ----------
        cause
            Name of the signal, as in ``SIGSEGV``.
        """
        try:
            found: dict[str, Any] = json.loads(self._busy.read_bytes())
            in_flight = str(found["stage"]), tuple(found["ids"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._crashes[in_flight] = cause
        result = [{"stage": s, "ids": ids, "cause": by} for (s, ids), by in self._crashes.items()]
        temporary = self._known.with_name(f".cvx-{self._known.name}")
        temporary.write_text(json.dumps(result))
        temporary.replace(self._known)
        self.forget()
        return in_flight
