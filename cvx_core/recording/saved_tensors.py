"""Tensors that the backward pass and the replay need, copied before the model overwrites them."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from cvx_core.errors import MethodError

_INTEGERS = {int}


class _Kept:
    """A saved tensor, or a copy of it once the original is about to be overwritten."""

    # Without a constructor: it would be a call for each tensor that a network saves.
    tensor: Tensor


class SavedTensors:
    """Saved tensors of a graph, copied when their memory is about to change.

    PyTorch refuses a backward pass through a tensor that was overwritten in place, as in
    ``y = relu(x); y += x``. Networks that were never trained in this form can be explained all the
    same: a copy is made at that moment, and of these tensors alone.
    """

    def __init__(self) -> None:
        # Weakly: the graph owns what it saves, and lets go of it when it is freed.
        self._by_memory: dict[int, list[ref[_Kept]]] = {}

    def pack(self, tensor: Tensor) -> _Kept:
        """Save a tensor for the graph, which attaches it again when it unpacks it."""
        # Detached: an operation such as relu saves its own output. With its graph the saved tensor
        # would hold the operation that holds it, a cycle through C++ that is never collected.
        kept = _Kept()
        kept.tensor = tensor = tensor.detach()
        memory = tensor.untyped_storage().data_ptr()
        self._by_memory.setdefault(memory, []).append(ref(kept))
        return kept

    unpack = staticmethod(operator.attrgetter("tensor"))
    """Return the tensor as it was when it was saved."""

    def keep(self, value: Any) -> Any:
        """Save all tensors of nested tuples and lists."""
        if isinstance(value, Tensor):
            kept = self.pack(value)
            kept.tensor = value
            return kept
        if type(value) not in (tuple, list):
            return value
        found = []
        for one in value:
            # Most are numbers, or a stride or the like, which need no call.
            plain = type(one) is tuple and set(map(type, one)) == _INTEGERS
            nested = isinstance(one, Tensor | tuple | list) and not plain
            found.append(self.keep(one) if nested else one)
        return type(value)(found)

    def restore(self, value: Any) -> Any:
        """Return what was given to `keep`."""
        if isinstance(value, _Kept):
            return value.tensor
        if type(value) not in (tuple, list):
            return value
        found = []
        for one in value:
            plain = type(one) is tuple and set(map(type, one)) == _INTEGERS
            nested = isinstance(one, _Kept | tuple | list) and not plain
            found.append(self.restore(one) if nested else one)
        return type(value)(found)

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are still saved; a freed graph has released its own."""
        found = []
        for several in self._by_memory.values():
            for one in several:
                kept = one()
                if kept is not None:
                    found.append(kept.tensor)
        return found

    def before_overwriting(self, target: Any) -> None:
        """Copy the saved tensors that share memory with a tensor that is about to change."""
        # By storage and not by tensor: a view of a saved tensor overwrites it too.
        if isinstance(target, Tensor):
            for one in self._by_memory.pop(target.untyped_storage().data_ptr(), ()):
                kept = one()
                if kept is not None:
                    kept.tensor = kept.tensor.detach().clone()
                    memory = kept.tensor.untyped_storage().data_ptr()
                    self._by_memory.setdefault(memory, []).append(one)


def storages(tensors: Iterable[Tensor]) -> dict[tuple[torch.device, int], int]:
    """Return the bytes of each storage that tensors lie in, counted once if several share it."""
    found = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        found[tensor.device, storage.data_ptr()] = storage.nbytes()
    return found


class Tape:
    """Gates and choices of one forward pass, to be replayed in order.

    A frozen network is affine in the recorded layer, so that replaying its gates at zero gives
    the constant part of its output: <s, f(x)> = <g, x> + <s, f_frozen(0)>. Choices are results
    through which no gradient flows: detached tensors, indices, numbers.
    """

    def __init__(self, saved: SavedTensors) -> None:
        self._saved = saved
        self._entries: list[tuple[str, Any]] = []
        self._choices: dict[int, Any] = {}
        self._next = self._call = 0
        self._sealed = False
        self.replaying = False

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, name: str, entry: Any) -> None:
        """Keep one gate; recomputation after the forward pass adds none."""
        # Checkpointed parts run again in the backward pass; their gates are on the tape already.
        if not self._sealed:
            self._entries.append((name, self._saved.keep(entry)))

    def count(self) -> None:
        """Count one call of a function, whatever it is."""
        self._call += 1

    def put_choice(self, result: Any) -> None:
        """Keep the result of the last counted call."""
        if not self._sealed:
            self._choices[self._call] = self._saved.keep(result)

    @property
    def has_choice(self) -> bool:
        """Whether the result of the last counted call was kept."""
        return self._call in self._choices

    def take_choice(self) -> Any:
        """Return the result of the last counted call."""
        return self._saved.restore(self._choices[self._call])

    def seal(self) -> None:
        """End the recording of gates."""
        self._sealed = True

    def take(self, name: str) -> Any:
        """Return the next gate, which must be of the given function.

        Raises
        ------
        MethodError
            If the replay runs other functions than the recording did.
        """
        if self._next >= len(self._entries) or self._entries[self._next][0] != name:
            was = self._entries[self._next][0] if self._next < len(self._entries) else "the end"
            raise MethodError(
                f"The network's path depends on its data: the replay ran {name!r} where {was} was "
                "recorded.",
                "Pass verify=False to skip the check by replay.",
            )
        self._next += 1
        return self._saved.restore(self._entries[self._next - 1][1])

    def rewind(self) -> None:
        """Start again from the first call."""
        self._next = self._call = 0
