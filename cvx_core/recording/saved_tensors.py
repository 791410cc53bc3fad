"""What the backward pass and the replay will need, copied before the model overwrites it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from cvx_core.errors import MethodError


class _Kept:
    """A tensor that was kept, or, once that was overwritten, a copy of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedTensors:
    """Keeps tensors, and copies those whose memory is about to change.

    PyTorch refuses a backward pass through what was overwritten in place, as `y = relu(x); y += x`
    does. Networks that were never trained in this form are explained all the same: a copy is made
    in that moment, and of these tensors alone.
    """

    def __init__(self) -> None:
        self._by_memory: dict[int, WeakSet[_Kept]] = {}

    def pack(self, tensor: Tensor) -> _Kept:
        """Keep a tensor for its graph, which puts it back in its place there."""
        # With its graph it would be held by what it holds, and nobody would ever let go of either:
        # an operation keeps its own output, as relu does, and cycles through it are not collected.
        return self._kept(tensor.detach())

    def _kept(self, tensor: Tensor) -> _Kept:
        kept = _Kept(tensor)
        self._by_memory.setdefault(_memory(tensor), WeakSet()).add(kept)
        return kept

    def unpack(self, kept: _Kept) -> Tensor:
        """Return it as it was."""
        return kept.tensor

    def keep(self, value: Any) -> Any:
        """Keep all tensors of a nested tuple."""
        if isinstance(value, Tensor):
            return self._kept(value)
        return tuple(map(self.keep, value)) if type(value) is tuple else value

    def restore(self, value: Any) -> Any:
        """Return what was given to `keep`."""
        if isinstance(value, _Kept):
            return value.tensor
        return tuple(map(self.restore, value)) if type(value) is tuple else value

    def tensors(self) -> Iterator[Tensor]:
        """Yield what is still kept: the graph lets go of what its backward pass is done with."""
        for several in self._by_memory.values():
            for kept in several:
                yield kept.tensor

    def before_overwriting(self, target: Any) -> None:
        """Copy what shares memory with a tensor that is about to change."""
        if isinstance(target, Tensor):
            for kept in self._by_memory.pop(_memory(target), ()):
                kept.tensor = kept.tensor.detach().clone()
                self._by_memory.setdefault(_memory(kept.tensor), WeakSet()).add(kept)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def storages(tensors: Iterable[Tensor]) -> dict[tuple[torch.device, int], int]:
    """Return the bytes of each piece of memory that tensors lie in, however many share it."""
    return {
        (tensor.device, _memory(tensor)): tensor.untyped_storage().nbytes() for tensor in tensors
    }


class Tape:
    """Keeps what each intercepted function held constant, and hands it out again in order.

    A frozen network is affine in the recorded place, so replaying its gates at another value
    gives the constant part of its output: <s, f(x)> = <g, x> + <s, f_frozen(0)>.
    """

    def __init__(self, saved: SavedTensors) -> None:
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
