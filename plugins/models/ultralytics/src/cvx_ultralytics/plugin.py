"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the models."""
    yield Component(
        "ultralytics",
        "YOLO and RT-DETR from a checkpoint or a configuration of ultralytics (AGPL-3.0)",
        "cvx_ultralytics.source:UltralyticsSource",
    )
