"""Actors of the cluster: one kind decodes, the other has the model.

They are plain classes, so that this module is imported where Ray isn't. Both take the work as bytes
and open it when they are greeted: what goes wrong then can be told, and an actor that fails as it
is made can't.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from cvx_engine import Work
from cvx_engine.pool import DecoderPool, FailedItem, explain_batch

from cvx_core import CvxError
from cvx_core.plugins import error_boundary
from cvx_ray.serialization import unpack


def _unpacked(packed: bytes) -> Any:
    node = platform.node()
    with error_boundary(
        lambda reason: CvxError(
            f"The work could not be opened on {node}: {reason}",
            "Every machine of the cluster needs the same packages, cvx and the code of the model "
            "among them.",
        )
    ):
        return unpack(packed)


class Decoding:
    """Decodes, in a process beside it that an item may end.

    Parameters
    ----------
    packed
        What `Work.decoder` gave, packed.
    timeout
        See `Work`.
    """

    def __init__(self, packed: bytes, timeout: float) -> None:
        self._packed, self._timeout = packed, timeout

    def hello(self, proof: Any) -> None:
        """Get ready.

        Parameters
        ----------
        proof
            An item that can be decoded where the run was begun, or None.

        Raises
        ------
        CvxError
            If the work can't be opened here, or the item not decoded.
        """
        decode: Callable[[Any], Any] = _unpacked(self._packed)
        self._decoders = DecoderPool(decode, self._timeout, 1)
        self._decoders.__enter__()  # it ends with this process
        found = None if proof is None else self.decode([proof])[1][0]
        if isinstance(found, FailedItem):
            raise CvxError(
                f"{platform.node()} can't read the inputs of the run: {found.message}",
                "Every machine of the cluster must see the inputs under the same path.",
            )

    def decode(self, items: list[Any]) -> tuple[int, list[Any]]:
        """Return how many items there are, and what each holds, or a `FailedItem`."""
        self._decoders.submit(items)
        return len(items), [self._decoders.take(item) for item in items]


class Explaining:
    """Has the model.

    Parameters
    ----------
    packed
        The work, packed.
    device
        Where the model is to be.
    """

    def __init__(self, packed: bytes, device: str) -> None:
        self._packed, self._device = packed, device

    def hello(self) -> None:
        """Get ready.

        Raises
        ------
        CvxError
            If the work can't be opened here, or the device is not available.
        """
        self._work: Work[Any, Any, Any] = _unpacked(self._packed)
        self._work.to(self._device)

    def explain(self, items: list[Any], found: list[Any]) -> list[Any]:
        """Return the rows of items, of each of which was found what it holds or a `FailedItem`."""
        return explain_batch(self._work, items, found)
