"""Scheduler of the actors: which one decodes or explains what, until all has rows.

What is decoded goes from the process that decodes to the one that explains, and never through
this one, which has the rows alone and commits them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from cvx_engine import Listener, Work

from cvx_ray.batch_tracker import BatchTracker, Portion
from cvx_ray.pool import ASKED, Member, Pool, raised

PATIENCE = 0.5
"""Seconds between two looks at whether to stop, and at who is ready by now."""

_GONE = 5.0
"""Seconds until all that was asked of one that ended is answered."""


@dataclass(frozen=True, eq=False)
class Decoding:
    """A portion that is being decoded."""

    portion: Portion
    payload: Any


@dataclass(frozen=True, eq=False)
class Explaining:
    """A portion that is being explained."""

    portion: Portion


@dataclass(frozen=True, eq=False)
class Flight:
    """A request, its recipient, and the result to come."""

    what: Decoding | Explaining
    pool: Pool
    member: Member
    answer: Any


class Scheduler:
    """Does what is pending.

    Parameters
    ----------
    ray
        The module.
    work, listener
        See `cvx_engine.Engine.run`.
    decoders, models
        The processes that decode, and those that explain.
    """

    def __init__(
        self, ray: Any, work: Work[Any, Any, Any], listener: Listener, decoders: Pool, models: Pool
    ) -> None:
        self._ray, self._work, self._listener = ray, work, listener
        self._decoders, self._models = decoders, models
        self.tracker = BatchTracker(work, listener)
        self._flights: dict[Any, Flight] = {}
        self._decoded: deque[Decoding] = deque()

    def run(self) -> None:
        """Go on until all is done that was begun and no more is to begin.

        Raises
        ------
        CvxError
            If it can't go on.
        """
        while True:
            self._decoders.join()
            self._models.join()
            if not self._ask():
                return
            waited_for = [*self._flights, *self._decoders.greetings, *self._models.greetings]
            # Not fetched: pixels would be brought here.
            answered, _ = self._ray.wait(waited_for, timeout=PATIENCE, fetch_local=False)
            for answer in answered:
                flight = self._flights.get(answer)
                if flight is not None:
                    self._answered(flight)

    def _ask(self) -> bool:
        """Give everybody enough to do; return whether anything is left to be done."""
        while self.tracker.gathered:
            block, rows = self.tracker.gathered.popleft()
            self._work.commit(block, rows)
            self._listener.done(block, rows)
        while self._decoded and (member := self._models.free()):
            decoded = self._decoded.popleft()
            answer = member.handle.explain.remote(decoded.portion.items, decoded.payload)
            self._fly(Flight(Explaining(decoded.portion), self._models, member, answer))
        while self._room and (member := self._decoders.free()):
            portion = self.tracker.next()
            if portion is None:
                break
            answer, payload = member.handle.decode.options(num_returns=2).remote(portion.items)
            self._fly(Flight(Decoding(portion, payload), self._decoders, member, answer))
        return bool(self._flights or self._decoded or self.tracker.unfinished)

    @property
    def _room(self) -> bool:
        """Whether the memory is to hold another decoded portion."""
        ahead = sum(isinstance(one.what, Decoding) for one in self._flights.values())
        return ahead + len(self._decoded) < ASKED * (self._decoders.count + self._models.count)

    def _fly(self, flight: Flight) -> None:
        self._flights[flight.answer] = flight
        flight.member.flights.append(flight)

    def _answered(self, flight: Flight) -> None:
        try:
            found = self._ray.get(flight.answer)
        except self._ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, self._ray.exceptions.RayError):
                raise raised(error) from error
            # What it was to work on was lost with another machine, and it is well itself.
            self._landed(flight)
            self._again(flight, blamed=False)
        except self._ray.exceptions.RayError:
            self._lost(flight.pool, flight.member)
        else:
            self._landed(flight)
            self._use(flight.what, found)

    def _landed(self, flight: Flight) -> None:
        del self._flights[flight.answer]
        flight.member.flights.remove(flight)

    def _use(self, what: Decoding | Explaining, found: Any) -> None:
        if isinstance(what, Decoding):
            self._decoded.append(what)
        else:
            self.tracker.done(what.portion, found)

    def _lost(self, pool: Pool, member: Member) -> None:
        """Repeat the tasks of a process that ended; the task it was running counts as the cause."""
        pool.replace(member)
        blamed = True
        for flight in list(member.flights):
            self._landed(flight)
            try:
                found = self._ray.get(flight.answer, timeout=_GONE)
            except self._ray.exceptions.RayError:
                self._again(flight, blamed=blamed)
                blamed = False
            else:
                self._use(flight.what, found)

    def _again(self, flight: Flight, *, blamed: bool) -> None:
        if blamed:
            self.tracker.died(flight.what.portion)
        else:
            self.tracker.again(flight.what.portion)
