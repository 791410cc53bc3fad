"""Build torchvision's networks without letting torchvision read the weights.

Its builders load a checkpoint with ``weights_only=False``. Here they build the bare network with
the arguments that they would choose for the weights, and cvx reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from cvx_core.model_source import seeded

_INCEPTIONS = ("googlenet", "inception_v3")


def build(name: str, weights: WeightsEnum, *, random: bool) -> nn.Module:
    """Return a network of the shape that the weights have, with seeded random parameters.

    Parameters
    ----------
    name
        Of the builder.
    weights
        Whose shape to take.
    random
        Whether the random parameters are kept, and so worth the time of a slow initialisation.
    """
    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if name.startswith("vit_"):
        arguments["image_size"] = weights.meta["min_size"][0]
    if name.startswith("maxvit"):
        arguments["input_size"] = weights.meta["min_size"]
    if name in _INCEPTIONS:
        # Their weights were trained on another normalisation, which the network itself applies.
        arguments |= {"transform_input": True, "aux_logits": True, "init_weights": random}
    with seeded():
        module: nn.Module = models.get_model(name, weights=None, **arguments)
    return module


def rename(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a checkpoint under the names of today's network.

    DenseNet's were saved when a name could hold a dot: ``norm.1`` is ``norm1`` now.
    """
    if not name.startswith("densenet"):
        return dict(state)
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {old.sub(r"\1\2", key): tensor for key, tensor in state.items()}
