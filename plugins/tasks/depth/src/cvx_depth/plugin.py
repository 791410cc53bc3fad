"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_tasks() -> Iterable[Component]:
    """Offer the task."""
    yield Component("depth", "A value for each pixel, such as depth.", "cvx_depth.task:Depth")
