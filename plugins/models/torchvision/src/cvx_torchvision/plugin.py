"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the models."""
    yield Component(
        "torchvision",
        "torchvision's classifiers, segmenters and detectors with their published weights",
        "cvx_torchvision.source:TorchvisionSource",
    )
