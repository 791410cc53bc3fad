"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the embedded networks."""
    yield Component(
        "embedded",
        "Networks with real weights, no download: classifier, detector, segmenter",
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
