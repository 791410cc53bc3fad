"""The gates of one forward pass, in the order in which they were passed."""

from __future__ import annotations

from typing import Any

from cvx_core.errors import MethodError
from cvx_core.recording.interception.saved_tensors import Saved


class Tape:
    """Keeps what each intercepted function held constant, and hands it out again in order.

    A frozen network is affine in the recorded place, so replaying its gates at another value
    gives the constant part of its output: <s, f(x)> = <g, x> + <s, f_frozen(0)>.
    """

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._entries: list[tuple[str, Any]] = []
        self._next = 0
        self._sealed = False
        self.replaying = False

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, name: str, entry: Any) -> None:
        """Keep one gate; after the forward pass, when a backward pass computes again, nothing."""
        if not self._sealed:
            self._entries.append((name, self._saved.keep(entry)))

    def seal(self) -> None:
        """The forward pass is over."""
        self._sealed = True

    def take(self, name: str) -> Any:
        """Return the next gate; it must be of the function that asks.

        Raises
        ------
        MethodError
            If the replay takes another way through the network than the recording did.
        """
        if self._next >= len(self._entries) or self._entries[self._next][0] != name:
            was = self._entries[self._next][0] if self._next < len(self._entries) else "the end"
            raise MethodError(
                f"The network's way depends on its data: replaying met {name!r} where {was} was "
                "recorded.",
                "Pass verify=False to go without the check by replay.",
            )
        self._next += 1
        return self._saved.restore(self._entries[self._next - 1][1])

    def rewind(self) -> None:
        """Start again from the first gate."""
        self._next = 0
