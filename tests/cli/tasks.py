"""Small networks of the tasks of plugins."""

from __future__ import annotations

import torch
from torch import nn

from cvx_core import Preprocess, VisionModel


def net(*behind: nn.Module) -> nn.Module:
    """Return a network of seeded weights with a grid of 8 x 8."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        *behind,
    ).eval()


def head(outputs: int) -> tuple[nn.Module, ...]:
    """Return the layers that make a vector of a grid."""
    return nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, outputs)


def multi_label() -> VisionModel:
    """Return a model with two labels."""
    return VisionModel(net(*head(2)), Preprocess(32), ["cat", "dog"], "multi-label")


def regression() -> VisionModel:
    """Return a model with a value."""
    return VisionModel(net(*head(1)), Preprocess(32), ["age"], "regression:unit=years,tolerance=1")


def depth() -> VisionModel:
    """Return a model with a value for each pixel."""
    return VisionModel(net(nn.Conv2d(8, 1, 1)), Preprocess(32), task="depth:unit=m")


def points() -> VisionModel:
    """Return a model with two key points."""
    return VisionModel(net(nn.Conv2d(8, 2, 1)), Preprocess(32), ["nose", "ear"], "key-points")


def prompts() -> VisionModel:
    """Return a model that compares an image with two prompts."""
    return VisionModel(net(*head(2)), Preprocess(32), ["a cat", "a big dog"], "zero-shot")


def embedding() -> VisionModel:
    """Return a network of embeddings."""
    return VisionModel(net(*head(5)), Preprocess(32))
