"""Components of this plugin: the engine of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_engines() -> Iterable[Component]:
    """Offer the engine."""
    yield Component(
        "ray",
        "Ray cluster: CPU processes decode, GPU processes explain.",
        "cvx_ray.engine:Ray",
    )
