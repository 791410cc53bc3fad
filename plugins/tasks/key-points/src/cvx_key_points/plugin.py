"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_tasks() -> Iterable[Component]:
    """Offer the task."""
    yield Component(
        "key-points",
        "A heat map for each key point, as of poses and faces.",
        "cvx_key_points.task:KeyPoints",
    )
