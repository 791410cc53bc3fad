"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the embedded networks."""
    yield Component(
        "embedded",
        "Classifier, detector and person segmenter with trained weights; no download",
        "cvx_embedded.source:EmbeddedSource",
    )


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Offer the demonstration."""
    yield Component(
        "demo",
        "Explain two sample images and describe the results.",
        "cvx_embedded.demo:demo",
    )
