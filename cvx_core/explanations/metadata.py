"""An immutable mapping of JSON values, for evidence and provenance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from cvx_core._util.text import shortened


class Metadata(Mapping[str, Any]):
    """Read-only mapping of JSON values, which may be nested.

    Nested mappings become `Metadata` and sequences become tuples; numbers of NumPy and PyTorch
    become Python numbers. It compares equal to a dict with the same content, and survives
    pickling and copying.
    """

    __slots__ = ("_data",)
    _data: dict[str, Any]

    def __init__(self, data: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        self._data: dict[str, Any]
        if isinstance(data, Metadata) and not more:
            self._data = data._data  # nobody changes it
            return
        found = data._data if isinstance(data, Metadata) else data or {}
        self._data = {
            str(k): v if type(v) in _FROZEN else _freeze(v) for k, v in {**found, **more}.items()
        }

    def __or__(self, other: Mapping[str, Any]) -> Metadata:
        """Return a copy in which values of another mapping replace those of the same keys."""
        changed = Metadata(self)
        changed._data = {**self._data, **Metadata(other)._data}
        return changed

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return shortened(f"Metadata({self.to_dict()!r})", 100)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metadata):
            return self._data == other._data
        if isinstance(other, Mapping):
            return self._data == Metadata(other)._data
        return NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._data.items()))

    def __reduce__(self) -> tuple[type[Metadata], tuple[dict[str, Any]]]:
        return Metadata, (dict(self._data),)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists; numbers that JSON lacks (nan, inf) become None."""
        return {key: _thaw(value) for key, value in self._data.items()}


_FROZEN = (str, bool, int, float, type(None), Metadata)


def _freeze(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float | Metadata):
        return value
    if isinstance(value, Mapping):
        return Metadata(value)
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(_freeze(item) for item in value)
    if hasattr(value, "tolist"):
        return _freeze(value.tolist())
    return str(value)


def _thaw(value: Any) -> Any:
    if isinstance(value, Metadata):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_thaw(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
