"""Cache of module outputs of one forward pass, for passes that start in the same way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from cvx_core.models import version


class KnownOutputs:
    """Outputs of a network's modules, and the order of their first calls.

    Parameters
    ----------
    keep
        Whether to keep outputs; otherwise only the order.

    Attributes
    ----------
    turn
        Order of the first call of each called module.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self.turn: dict[nn.Module, int] = {}
        self._keep, self._clock = keep, 0
        self._left: dict[nn.Module, tuple[int, Tensor, int] | None] = {}

    def arrive(self, module: nn.Module) -> None:
        """Record the call of a module."""
        self._clock += 1
        self.turn.setdefault(module, self._clock)

    def leave(self, module: nn.Module, output: Any) -> None:
        """Record the output, unless the module is called twice or returns no tensor."""
        again = module in self._left
        known = self._keep and not again and isinstance(output, Tensor)
        self._left[module] = (self._clock, output, version(output)) if known else None

    def before(self, turn: int, network: nn.Module) -> dict[nn.Module, Tensor]:
        """Return the outputs of modules that returned before a turn.

        They are unaffected by changes of later modules. Only the outermost module is listed.
        """
        found: dict[nn.Module, Tensor] = {}
        inside: set[nn.Module] = set()
        for one in network.modules():
            left = self._left.get(one)
            if one in inside or left is None or not _replaceable(one):
                continue
            when, output, was = left
            # An output modified in place since belongs to a later module.
            if when < turn and version(output) == was:
                found[one] = output
                inside.update(one.modules())
        return found


@contextmanager
def skipping(outputs: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Let modules return copies of their cached outputs in this thread, without running."""
    thread = threading.get_ident()

    def stand_in(module: nn.Module, output: Tensor) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return type(module).forward(module, *args, **kwargs)
            return output.clone()

        return forward

    try:
        for module, output in outputs.items():
            vars(module)["forward"] = stand_in(module, output)
        yield
    finally:
        for module in outputs:
            vars(module).pop("forward", None)


def _replaceable(module: nn.Module) -> bool:
    """Whether its forward is a plain method of its class: scripts and patched modules are not."""
    return "forward" not in vars(module) and isinstance(type(module).forward, FunctionType)
