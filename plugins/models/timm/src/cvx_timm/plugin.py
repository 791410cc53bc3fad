"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the models."""
    yield Component(
        "timm",
        "timm's classifiers with their pretrained tags",
        "cvx_timm.source:TimmSource",
    )
