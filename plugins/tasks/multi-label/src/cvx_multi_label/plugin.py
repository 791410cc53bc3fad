"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_tasks() -> Iterable[Component]:
    """Offer the task."""
    yield Component(
        "multi-label",
        "Several labels may be right for an image; each has a sigmoid of its own.",
        "cvx_multi_label.task:MultiLabel",
    )
