"""Facts about a network, such as its layout, that hold as long as its weights do."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import nn

from cvx_core._util.modules import named_modules

T = TypeVar("T")

Versions = tuple[tuple[int, int], ...]

# Not an attribute of the model, because threads share models.
_valid: ContextVar[tuple[NetworkFacts, ...]] = ContextVar("valid", default=())


class NetworkFacts:
    """What was found out about a network with certain weights.

    Parameters
    ----------
    versions
        Of the weights; see `weight_versions`.

    Attributes
    ----------
    digest
        Of the weights; empty until it is computed.
    notes
        What is true of the network, such as that it refuses a memory format.
    """

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self.digest = ""
        self.notes: set[tuple[Hashable, ...]] = set()
        self._found: dict[tuple[Hashable, ...], Any] = {}

    def find(self, compute: Callable[[], T], *key: Hashable) -> T:
        """Return ``compute()``, computed once for each key."""
        if key not in self._found:
            self._found[key] = compute()
        found: T = self._found[key]
        return found

    def adopt(self, other: NetworkFacts) -> None:
        """Take over all facts about a network of the same architecture."""
        self.notes |= other.notes
        self._found |= other._found

    @property
    def are_valid(self) -> bool:
        """Whether the versions were compared in this context; see `validity`."""
        return self in _valid.get()

    @contextmanager
    def validity(self) -> Iterator[None]:
        """Don't compare the versions of the weights inside."""
        token = _valid.set((*_valid.get(), self))
        try:
            yield
        finally:
            _valid.reset(token)


def input_channels(module: nn.Module) -> int | None:
    """Return the channels of the first convolution, or None if there is none."""
    convolutions = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return next((one.in_channels for one in convolutions), None)


def weight_versions(module: nn.Module) -> Versions:
    """Return numbers that change whenever a submodule, parameter or buffer does."""
    versions: list[tuple[int, int]] = []
    for _, one in named_modules(module):
        versions.append((id(one), 0))
        for tensor in (*one._parameters.values(), *one._buffers.values()):
            if tensor is not None:
                # As `version` does; hundreds of calls are saved.
                changes = 0 if tensor.is_inference() else tensor._version
                versions.append((tensor.data_ptr(), changes))
    return tuple(versions)
