"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_tasks() -> Iterable[Component]:
    """Offer the task."""
    yield Component(
        "embedding",
        "The most similar image of a gallery, by the cosine of embeddings.",
        "cvx_embedding.task:Embedding",
    )


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer models compared with a gallery."""
    yield Component(
        "embedding",
        "any model, its outputs compared with the images in gallery=FOLDER",
        "cvx_embedding.gallery:EmbeddingSource",
    )
