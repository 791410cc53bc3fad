"""Components of this plugin: the kind `engine`, and the engine of one machine."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, Kind, hookimpl


@hookimpl
def cvx_kinds() -> Iterable[Kind]:
    """Offer the kind of component that runs the work on many images."""
    yield Kind("engine", "cvx_engines", "cvx_engine.base:Engine")


@hookimpl
def cvx_engines() -> Iterable[Component]:
    """Offer the engine of one machine."""
    yield Component(
        "local",
        "One machine: worker processes decode, the main process explains.",
        "cvx_engine.local:Local",
    )
