"""One call of an intercepted function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_core.recording.saved_tensors import Tape


@dataclass
class Call:
    """One call of an intercepted function.

    Attributes
    ----------
    name, run, args, kwargs
        The function and its arguments.
    tape
        Records gates, or replays them; or None.
    gate
        Index of the factor of a product that is the other's gate, or None.
    """

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tape: Tape | None
    gate: int | None = None

    @property
    def replaying(self) -> bool:
        """Whether the gates come from the tape."""
        return self.tape is not None and self.tape.replaying

    def native(self) -> Any:
        """Call the function as the model did."""
        return self.run(*self.args, **self.kwargs)

    def native_detached(self) -> Any:
        """Call the function outside the graph."""
        args = list(self.args)
        for i, one in enumerate(args):
            if isinstance(one, Tensor):
                args[i] = one.detach()
        # What torch.no_grad does in eight calls, for each function that has a rule.
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            return self.run(*args, **self.kwargs)
        finally:
            torch._C._set_grad_enabled(before)

    def put(self, entry: Any) -> None:
        """Record a gate, if there is a tape."""
        if self.tape is not None:
            self.tape.put(self.name, entry)

    def take(self) -> Any:
        """Return the recorded gate."""
        assert self.tape is not None
        return self.tape.take(self.name)


def active(*values: Any) -> bool:
    """Whether any of the values depends on a recorded layer."""
    # Parameters and tensors before the earliest layer take part without gradient, so that only what
    # depends on a recorded layer requires one. Loops, because this runs for every function.
    for value in values:  # noqa: SIM110
        if isinstance(value, Tensor) and value.requires_grad:
            return True
    return False


def any_active(value: Any) -> bool:
    """Whether anything in a nested tuple, list or mapping depends on a recorded layer."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Tensor):
            if one.requires_grad:
                return True
        elif isinstance(one, tuple | list):
            stack += one
        elif isinstance(one, dict):
            stack += one.values()
    return False


def is_choice(result: Any) -> bool:
    """Whether no gradient flows through a result: a detached tensor, indices, a number."""
    if isinstance(result, Tensor):
        return not result.requires_grad
    if isinstance(result, tuple | list):
        return all(map(is_choice, result))
    return isinstance(result, bool | int | float)


def arguments(call: Call, *names: str) -> list[Any]:
    """Return the arguments behind the first, given by position or by name; None if missing."""
    found = list(call.args[1 : 1 + len(names)])
    if len(found) < len(names):
        found += [call.kwargs.get(name) for name in names[len(found) :]]
    return found


def argument(call: Call, position: int, name: str, default: Any = None) -> Any:
    """Return an argument given by position or by name."""
    return call.args[position] if len(call.args) > position else call.kwargs.get(name, default)
