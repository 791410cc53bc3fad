"""Where the signal itself is held: what a constant function makes, added and not multiplied.

A sigmoid, a softplus or a deviation is held constant because as a rule it scales something. Where
its result is added to the signal, or is the answer, the signal ends there. To tell the two apart,
what such a function makes is followed through all that is computed from it, until it meets
something that still depends on the recorded place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from torch import Tensor, nn

from cvx_core.recording.interception.constants import MAKERS, Constants
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.rules.call import active

_SHIFTED = ("log_softmax", "log_sigmoid")
"""What they subtract is held by their own rule."""


@dataclass(frozen=True)
class Origin:
    """A function that was held, and the module that called it (empty for the network itself)."""

    module: str
    function: str


Origins = tuple[Origin, ...]


@dataclass
class _Met:
    origins: Origins
    constant: Tensor
    zeros: Tensor


@dataclass
class Leakage:
    """Follows what constant functions make, in one forward pass.

    Attributes
    ----------
    met
        Whether any of it was added to the signal.
    ends
        What the network's answer is made of, where nothing of the signal arrives there.
    over
        Whether the forward pass is over, and what is computed again in the backward pass is not
        to be followed.
    """

    met: bool = False
    ends: Origins = ()
    over: bool = False
    _parts: list[_Met] = field(default_factory=list)
    _open: list[str] | None = None
    _of: dict[int, tuple[ref[Tensor], Origins]] = field(default_factory=dict)

    @contextmanager
    def measuring(self, module: nn.Module) -> Iterator[None]:
        """Learn the modules' names for a while, and keep what each function adds."""

        def enter(name: str, _args: Any, _kwargs: Any) -> None:
            opened.append(name)

        def leave(_name: str, _args: Any, _kwargs: Any, _output: Any) -> None:
            opened.pop()

        opened: list[str] = []
        self._open = opened
        with hooked(module.named_modules(), before=enter, after=leave):
            yield

    def origins(self, value: Any) -> Origins:
        """Return the held functions that a value, or a nested tuple of them, was made by."""
        found: dict[Origin, None] = {}
        for tensor in _tensors(value):
            found |= dict.fromkeys(self._known(tensor))
        return tuple(found)

    def begin(self, function: str, result: Any) -> None:
        """Follow what a rule made of the signal, where it let none of it pass."""
        for tensor in _tensors(result):
            if not active(tensor):
                self._note(tensor, (self._here(function),))

    def follow(self, args: Any, result: Any) -> None:
        """Follow what any function makes of what is followed."""
        if not self._of:
            return
        known = self.origins(args)
        for tensor in _tensors(result):
            if active(tensor):
                self._of.pop(id(tensor), None)
            elif known and not self._known(tensor):
                self._note(tensor, known)

    def meets(
        self, function: str, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Origins, Tensor] | None:
        """Return what a call is about to add to the signal of what is held, and where from.

        None if that is nothing, or is not measured.
        """
        if function not in MAKERS:
            return None
        # Where a condition or an index was computed, it chooses, and adds nothing.
        values = [t for t in _tensors((args, kwargs)) if t.is_floating_point()]
        shifted = function in _SHIFTED and any(map(active, values))
        origins = (self._here(function),) if shifted else self.origins(values)
        if not origins:
            return None
        others = {
            id(t): t.new_zeros(()).expand(t.shape)
            for t in values
            if not active(t) and not self._known(t)
        }
        args, kwargs = _replaced(args, others), _replaced(kwargs, others)
        constant = Constants().find(function, run, args, kwargs)
        if constant is None:
            return None
        self.met = True
        return None if self._open is None else (origins, constant)

    def mark(self, met: tuple[Origins, Tensor], result: Tensor, *, in_place: bool) -> Tensor:
        """Return the result of such a call with zeros added that can be asked for a gradient."""
        constants = Constants()
        marked = constants.mark(met[1], result, in_place=in_place)
        [(constant, zeros)] = constants.kept
        self._parts.append(_Met(met[0], constant, zeros))
        return marked

    def nodes(self) -> list[Tensor]:
        """Return the zeros, in the order of the forward pass."""
        return [part.zeros for part in self._parts]

    def carried(self, gradients: list[Tensor | None]) -> dict[Origins, float]:
        """Return how much of a seeded answer what is held adds, from the gradients of `nodes`."""
        found: dict[Origins, float] = {}
        for part, gradient in zip(self._parts, gradients, strict=True):
            if gradient is not None:
                more = float((gradient.double() * part.constant.double()).sum())
                found[part.origins] = found.get(part.origins, 0.0) + more
        return dict(sorted(found.items(), key=lambda pair: -abs(pair[1])))

    def _known(self, tensor: Tensor) -> Origins:
        # By identity: tensors are compared value by value. An address may be used again.
        found = self._of.get(id(tensor))
        return () if found is None or found[0]() is not tensor else found[1]

    def _note(self, tensor: Tensor, origins: Origins) -> None:
        self._of[id(tensor)] = (ref(tensor), origins)

    def _here(self, function: str) -> Origin:
        return Origin(self._open[-1] if self._open else "", function)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _replaced(value: Any, others: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return others.get(id(value), value)
    if type(value) in (tuple, list):
        return type(value)(_replaced(part, others) for part in value)
    if isinstance(value, dict):
        return {key: _replaced(part, others) for key, part in value.items()}
    return value


__all__ = ["Leakage", "Origin", "Origins"]
