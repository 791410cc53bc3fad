"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the models."""
    yield Component(
        "transformers",
        "classifiers, segmenters and detectors of transformers, from a folder or the hub",
        "cvx_transformers.source:TransformersSource",
    )
