"""Construction of torchvision's networks; cvx reads the weights.

torchvision's builders load a checkpoint with ``weights_only=False``. Here they build the network
with the arguments that they would choose for the weights, and cvx reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum, detection

from cvx_core.models import seeded

_INCEPTIONS = ("googlenet", "inception_v3")

_WITHOUT_EPSILON = (
    detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    detection.KeypointRCNN_ResNet50_FPN_Weights.COCO_V1,
    detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1,
)
"""Trained when the frozen batch normalisation of detectors added nothing to the variance."""

_RENAMED = (
    (r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),
    (r"(\.fpn\.(?:inner|layer)_blocks\.\d+)\.(\w+)$", r"\1.0.\2"),
    (r"^(rpn\.head\.conv)\.(\w+)$", r"\1.0.0.\2"),
    (r"(mask_head)\.mask_fcn(\d+)\.(\w+)$", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}"),
    (r"(_head\.conv)\.(\d+)\.(\w+)$", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"),
)
"""Module names in the oldest weights, and their current names."""


def build(name: str, task: str, weights: WeightsEnum, *, random: bool) -> nn.Module:
    """Return a network of the shape that the weights have, with seeded random parameters.

    Parameters
    ----------
    name, task
        Name of the builder, and the task of its networks.
    weights
        The weights that define the shape.
    random
        Whether the random parameters are kept, so that a slow initialisation is worth its time.
    """
    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if task != "classification":
        # Without weights of its own a builder downloads those of its backbone.
        arguments["weights_backbone"] = None
    if task == "segmentation" and "lraspp" not in name:
        arguments["aux_loss"] = True
    if name.startswith("vit_"):
        arguments["image_size"] = weights.meta["min_size"][0]
    if name.startswith("maxvit"):
        arguments["input_size"] = weights.meta["min_size"]
    if name in _INCEPTIONS:
        # Their weights were trained on another normalisation, which the network itself applies.
        arguments |= {"transform_input": True, "aux_logits": True, "init_weights": random}
    with seeded():
        module: nn.Module = models.get_model(name, weights=None, **arguments)
    if weights in _WITHOUT_EPSILON:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 0.0
    return module


def rename(module: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a checkpoint under the names of today's network; unmatched names are kept."""
    own = module.state_dict().keys()
    return {_name(key, own): tensor for key, tensor in state.items()}


def _name(key: str, own: Collection[str]) -> str:
    today = [re.sub(old, new, key) for old, new in _RENAMED] if key not in own else []
    return next((name for name in today if name in own), key)
