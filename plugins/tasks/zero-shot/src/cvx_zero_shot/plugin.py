"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_tasks() -> Iterable[Component]:
    """Offer the task."""
    yield Component(
        "zero-shot",
        "One of several text prompts, by its similarity to the image.",
        "cvx_zero_shot.task:ZeroShot",
    )


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Offer the models."""
    yield Component(
        "zero-shot",
        "image-text models of transformers and open_clip, with prompts=FILE",
        "cvx_zero_shot.source:ZeroShotSource",
    )
