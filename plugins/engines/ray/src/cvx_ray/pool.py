"""Pool of actors: started, used when they are ready, replaced when they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cvx_core import CvxError
from cvx_core.plugins import REPORT, describe_error

ASKED = 2
"""What one is asked for at a time: what it works on, and what comes next."""

FALSE_STARTS = 3
"""How many may end in a row before they are ready."""


@dataclass(eq=False)
class Member:
    """One process.

    Attributes
    ----------
    handle
        Ray's.
    greeting
        Answered when it is ready.
    flights
        What it was asked for and has not answered, in order.
    """

    handle: Any
    greeting: Any
    flights: list[Any] = field(default_factory=list)


class Pool:
    """Processes of one kind.

    Parameters
    ----------
    ray
        The module.
    kind
        What they are called in messages.
    count
        How many there should be.
    begin
        Begins one, and returns its handle with its greeting. It is told whether to ask for a place
        of its own: what comes in place of another does not, since the machine that had it may be
        gone, and there is no other to wait for.
    wait
        Seconds for which none may be ready.
    """

    def __init__(
        self, ray: Any, kind: str, count: int, begin: Callable[[bool], tuple[Any, Any]], wait: float
    ) -> None:
        self._ray, self.kind, self.count, self._begin, self._wait = ray, kind, count, begin, wait
        self.ready: list[Member] = []
        self.coming: list[Member] = []
        self._false_starts = 0
        self._none_since = time.monotonic()

    def __enter__(self) -> Pool:
        for _ in range(self.count):
            self.coming.append(Member(*self._begin(True)))
        return self

    def __exit__(self, *exception: object) -> None:
        for member in (*self.ready, *self.coming):
            self._ray.kill(member.handle)

    @property
    def greetings(self) -> list[Any]:
        """What those answer that are not ready yet."""
        return [member.greeting for member in self.coming]

    def join(self) -> None:
        """Take in those that are ready by now.

        Raises
        ------
        CvxError
            If one can't get ready, several end before they are, or none is ready for too long.
        """
        if self.coming:
            answered, _ = self._ray.wait(self.greetings, num_returns=len(self.coming), timeout=0)
            for member in [one for one in self.coming if one.greeting in answered]:
                self.coming.remove(member)
                self._greeted(member)
        if self.ready:
            self._none_since = time.monotonic()
        elif time.monotonic() - self._none_since > self._wait:
            raise CvxError(
                f"No process that {self.kind} could be started within {self._wait:g} s. The "
                f"cluster has {_listed(self._ray.cluster_resources())}; available: "
                f"{_listed(self._ray.available_resources())}.",
                "It may be busy. Use fewer processes, as in --engine ray:models=1,decoders=1, or "
                "wait longer: ray:wait=3600.",
            )

    def free(self) -> Member | None:
        """Return the one that has least to do, or None if all have enough."""
        least = min(self.ready, key=lambda one: len(one.flights), default=None)
        return least if least is not None and len(least.flights) < ASKED else None

    def replace(self, member: Member) -> None:
        """Have another in place of one that has ended, or can't be reached any more."""
        self.ready.remove(member)
        self._ray.kill(member.handle)
        self.coming.append(Member(*self._begin(False)))

    def _greeted(self, member: Member) -> None:
        try:
            self._ray.get(member.greeting)
        except self._ray.exceptions.RayTaskError as error:
            raise raised(error) from error
        except self._ray.exceptions.RayError as error:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise CvxError(
                    f"{FALSE_STARTS} processes in a row that {self.kind} ended before they were "
                    f"ready: {describe_error(error)}",
                    "If memory is short, use fewer: --engine ray:models=1,decoders=1.",
                ) from error
            self.coming.append(Member(*self._begin(False)))
        else:
            self._false_starts = 0
            self.ready.append(member)


def raised(error: Any) -> CvxError:
    """Return what was raised in another process as an error of ours."""
    cause = error.cause
    if isinstance(cause, CvxError):
        return cause
    return CvxError(f"A process of the engine failed: {describe_error(cause)}", REPORT)


def _listed(resources: dict[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
