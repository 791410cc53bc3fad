"""Class names of timm's weights, and weights without classes."""

from __future__ import annotations

from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import PretrainedCfg

from cvx_core.models import first_synonyms

_IMAGENET = 1000
_EMBEDDINGS = ("clip", "pe_core")


def classifies(config: PretrainedCfg) -> bool:
    """Return whether a network's outputs are class scores.

    timm counts the outputs of CLIP's and the Perception Encoder's image towers as classes too; they
    are an embedding.
    """
    if config.label_names or infer_imagenet_subset(config):
        return True
    full = f"{config.architecture}.{config.tag}"
    return bool(config.num_classes) and not any(word in full for word in _EMBEDDINGS)


def class_names(config: PretrainedCfg) -> list[str] | None:
    """Return the class names by index, or None where timm does not know them."""
    named = config.label_descriptions or config.label_names
    if isinstance(named, dict):
        named = [named.get(name, name) for name in config.label_names or named]
    if named and len(named) == config.num_classes:
        return [str(name) for name in named]
    if config.num_classes != _IMAGENET:
        return None
    return first_synonyms(ImageNetInfo("imagenet-1k").label_descriptions())
