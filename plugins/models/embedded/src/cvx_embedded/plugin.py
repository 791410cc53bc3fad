"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the embedded network."""
    yield Component(
        "embedded",
        "EfficientNet-Lite0 with real ImageNet weights, no download",
        "cvx_embedded.source:EmbeddedSource",
    )


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Offer the demonstration."""
    yield Component(
        "demo",
        "Explain two embedded photographs and say what to look at.",
        "cvx_embedded.demo:demo",
    )
