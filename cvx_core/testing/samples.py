"""Explanations to draw without a model, for tests of renderers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvx_core.explanations.explanation import Explanation
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.targets import Margin, Predicted


def sample_explanation(
    *,
    cells: tuple[int, int] = (7, 7),
    size: tuple[int, int] = (320, 240),
    extent: tuple[float, float, float, float] | None = None,
    signed: bool = True,
    classes: tuple[str, ...] = ("power drill", "screwdriver", "hammer"),
    label: int | None = 1,
    seed: int = 0,
    **fields: Any,
) -> Explanation:
    """Return an explanation made of noise, the same for the same arguments.

    Parameters
    ----------
    cells
        (h, w) of the map.
    size
        (width, height) of the image.
    extent
        Rectangle of the image that the map covers; None for the central square.
    signed
        Whether the map has negative values.
    classes
        Names of three or more classes; the first is predicted.
    label
        Index of the true class, or None.
    seed
        Of the noise.
    **fields
        Other fields of `Explanation`.
    """
    noise = np.random.default_rng(seed)
    width, height = size
    side = min(size)
    left, top = (width - side) / 2, (height - side) / 2
    values = noise.normal(size=cells).astype(np.float32)
    values[cells[0] // 3, cells[1] // 2] = 4.0
    logits = np.linspace(3.0, -1.0, len(classes))
    scores = ClassificationPrediction(logits, classes)
    _, target = (Predicted() if label is None else Margin()).resolve(scores, label)
    ramp = np.linspace(30, 220, width)[None, :, None] * np.ones((height, 1, 3))
    image = (ramp * np.array([1.0, 0.8, 0.6])).astype(np.uint8)
    given = {
        "method": "sample",
        "unit": "logits",
        "name": "sample.jpg",
        "evidence": {"sum": float(values.sum()), "residual": 1.2e-7, "non_pixel_share": 0.25},
        "provenance": {"layer": "layer4", "seed": 0, "parameters": {"layer": "auto"}},
    }
    return Explanation(
        values=values if signed else np.abs(values),
        extent=extent or (left, top, left + side, top + side),
        image=image,
        target=target,
        signed=signed,
        **{**given, **fields},
    )
