"""Leakage: relevance that frozen functions absorb, because their result is added to the signal.

A sigmoid, a softplus or a deviation is frozen because as a rule it scales something. Where its
result is added to the signal, or is the output, relevance ends there and no position carries it. To
tell the two cases apart, the results of frozen functions are followed through everything that is
computed from them, until they meet a tensor that still depends on the recorded layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from torch import Tensor, nn

from cvx_core.recording.interception.constants import Constants
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.rules.call import active

SHIFTED = ("log_softmax", "log_sigmoid")
"""Functions that subtract a value which their own rule freezes."""


@dataclass(frozen=True)
class Origin:
    """A frozen function, and the module that called it (empty for the network itself)."""

    module: str
    function: str


Origins = tuple[Origin, ...]


@dataclass
class Leakage:
    """Tracker of the results of frozen functions through one forward pass.

    Attributes
    ----------
    met
        Whether such a result was added to the signal.
    ends
        Frozen functions that the output was computed from.
    over
        Whether the forward pass is over; recomputation in the backward pass is not followed.
    followed
        Results that are followed, by identity. `follow` has nothing to do where there are none.
    """

    met: bool = False
    ends: Origins = ()
    over: bool = False
    followed: dict[int, tuple[ref[Tensor], Origins]] = field(default_factory=dict)
    # Constants that were added to the signal, and where each is from.
    _added: Constants = field(default_factory=Constants)
    _origins: list[Origins] = field(default_factory=list)
    # Names of the modules that are running; None while leakage is detected but not measured.
    _open: list[str] | None = None

    @contextmanager
    def measuring(self, module: nn.Module) -> Iterator[None]:
        """Record module names for a while, and keep the constants that are added."""
        # A pass of its own, with hooks on all modules: most networks have no leakage, and shouldn't
        # pay for hooks. `met` alone says whether to run it.

        def enter(name: str, _args: Any, _kwargs: Any) -> None:
            opened.append(name)

        def leave(_name: str, _args: Any, _kwargs: Any, _output: Any) -> None:
            opened.pop()

        opened: list[str] = []
        self._open = opened
        with hooked(module.named_modules(), before=enter, after=leave):
            yield

    def origins(self, value: Any) -> Origins:
        """Return the frozen functions that a value, or a nested tuple of values, was made by."""
        found: dict[Origin, None] = {}
        for tensor in _tensors(value):
            found |= dict.fromkeys(self._known(tensor))
        return tuple(found)

    def begin(self, function: str, result: Any) -> None:
        """Follow the result of a rule that let no gradient pass."""
        for tensor in _tensors(result):
            if not active(tensor):
                self._note(tensor, (self._here(function),))

    def follow(self, args: Any, result: Any) -> None:
        """Follow the result of any function of what is followed."""
        known = self.origins(args)
        for tensor in _tensors(result):
            # The signal has joined: from here on gradients say what becomes of it. An in-place
            # function returns the tensor that was followed, so that it must be forgotten.
            if active(tensor):
                self.followed.pop(id(tensor), None)
            elif known and not self._known(tensor):
                self._note(tensor, known)

    def meets(
        self, function: str, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Origins, Tensor] | None:
        """Return the frozen constant that a call is about to add to the signal, with its origins.

        None if there is none, or it is not measured. Only functions in `MAKERS` add any, and only
        if something is followed or they are in `SHIFTED`.
        """
        # A condition or an index chooses and adds nothing.
        values = [t for t in _tensors((args, kwargs)) if t.is_floating_point()]
        shifted = function in SHIFTED and any(map(active, values))
        origins = (self._here(function),) if shifted else self.origins(values)
        if not origins:
            return None
        # Biases and the like are constants of the network and not leakage: with zeros in their
        # place, the same makers that find all constants find what frozen functions add.
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

    # The constant contributes <gradient, constant> to a seeded output, with the gradient at the
    # result. Zeros of the result's shape receive it; the constant itself has no graph.
    def mark(self, met: tuple[Origins, Tensor], result: Tensor, *, in_place: bool) -> Tensor:
        """Return the result of such a call, plus zeros that require a gradient."""
        self._origins.append(met[0])
        return self._added.mark(met[1], result, in_place=in_place)

    def nodes(self) -> list[Tensor]:
        """Return the zeros, in the order of the forward pass."""
        return [zeros for _, zeros in self._added.kept]

    def carried(self, gradients: list[Tensor | None]) -> dict[Origins, float]:
        """Return the contributions to a seeded output, from the gradients of `nodes`."""
        found: dict[Origins, float] = {}
        parts = zip(self._origins, self._added.kept, gradients, strict=True)
        for origins, (constant, _), gradient in parts:
            if gradient is not None:
                more = float((gradient.double() * constant.double()).sum())
                found[origins] = found.get(origins, 0.0) + more
        return dict(sorted(found.items(), key=lambda pair: -abs(pair[1])))

    def _known(self, tensor: Tensor) -> Origins:
        # By identity, because == on tensors compares values. With a weak reference, because the
        # address of a tensor that is gone may be that of a new one.
        found = self.followed.get(id(tensor))
        return () if found is None or found[0]() is not tensor else found[1]

    def _note(self, tensor: Tensor, origins: Origins) -> None:
        self.followed[id(tensor)] = (ref(tensor), origins)

    def _here(self, function: str) -> Origin:
        return Origin(self._open[-1] if self._open else "", function)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, tuple | list):
            stack += reversed(one)
        elif isinstance(one, dict):
            stack += reversed(one.values())
    return found


def _replaced(value: Any, others: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return others.get(id(value), value)
    if type(value) in (tuple, list):
        return type(value)(_replaced(part, others) for part in value)
    if isinstance(value, dict):
        return {key: _replaced(part, others) for key, part in value.items()}
    return value
