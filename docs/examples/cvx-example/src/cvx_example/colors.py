"""Model source: networks whose explanations are known, to test explainers with."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, Preprocess, VisionModel
from cvx_core.models import load_weights, names_a_file, seeded

WEIGHTS = {
    "mean": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "dots": [[1 / 64, -1 / 64, -1 / 64]],
}
"""Weights of the 1 x 1 convolution (out, 3) by the name of the model."""


class Colors(ModelSource):
    """Networks of one 1 x 1 convolution: `mean` classifies by color, `dots` counts red dots."""

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model with its preprocessing and class names.

        Raises
        ------
        ModelError
            If there is no such model.
        CheckpointError
            If there are no such weights, or they don't fit.
        """
        if name not in WEIGHTS:
            raise ModelError(
                f"The source 'colors' has no model {name!r}.", f"It has {', '.join(WEIGHTS)}."
            )
        with seeded():  # leaves the caller's random state alone
            convolution = nn.Conv2d(3, len(WEIGHTS[name]), 1, bias=False)
        with torch.no_grad():
            convolution.weight.copy_(torch.tensor(WEIGHTS[name])[:, :, None, None])
        rest = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if name == "mean" else [nn.ReLU()]
        module = nn.Sequential(convolution, *rest).eval()
        if weights is not None and str(weights) != "random":  # these networks need no training
            if not names_a_file(weights):
                raise CheckpointError(
                    f"{name} has no weights {str(weights)!r}.", "Pass the path of a file."
                )
            load_weights(module, weights, trust=trust_checkpoint)
        return VisionModel(
            module,
            preprocess=Preprocess(crop=64, mean=(0, 0, 0), std=(1, 1, 1)),
            classes=("red", "green", "blue") if name == "mean" else ("dots",),
            task="classification" if name == "mean" else "count",
            name=f"colors:{name}",
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return the models on offer."""
        yield ModelEntry("mean", (), "logits: the mean red, green and blue")
        yield ModelEntry("dots", (), "number of red dots of 8 x 8 pixels in an image of 64 x 64")
