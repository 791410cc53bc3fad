"""Model source for timm's classifiers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import timm
from timm.data import create_transform, resolve_model_data_config
from timm.models import PretrainedCfg
from torch import nn

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, VisionModel, did_you_mean
from cvx_core.models import load_weights, names_a_file
from cvx_timm.builder import bare, trained
from cvx_timm.class_names import class_names, classifies


class TimmSource(ModelSource):
    """Classifiers of timm, each with its own transforms."""

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model.

        Parameters
        ----------
        name
            As in ``timm.list_models()``, with or without the tag of its weights: ``"resnet50"``,
            ``"resnet50.a1_in1k"``.
        weights
            A tag (``"a1_in1k"``); None takes timm's default. With ``"random"`` or your own file,
            images are preprocessed as for the tag in the name.
        trust_checkpoint
            See `cvx_core.load_model`.

        Raises
        ------
        ModelError
            If the model is unknown, or not a classifier.
        CheckpointError
            If the weights are unknown, unavailable, or don't fit.
        """
        architecture, _, tag = name.partition(".")
        if architecture not in timm.list_models():
            raise ModelError(
                f"Unknown timm model: {architecture!r}.",
                did_you_mean(architecture, timm.list_models()) or "'cvx models timm' lists them.",
            )
        own = weights is not None and (str(weights) == "random" or names_a_file(weights))
        if weights is not None and not own:
            if tag and tag != str(weights):
                raise CheckpointError(
                    f"{name} already names its weights; got --weights {str(weights)!r} too.",
                    f"Write timm:{architecture}.{weights}.",
                )
            tag = str(weights)
        config = _config(architecture, tag)
        if weights is None or not own:
            module, origin = trained(config), config.tag
        else:
            module, origin = bare(config), Path(weights).name
            if str(weights) != "random":
                load_weights(module, weights, trust=trust_checkpoint)
        transform = create_transform(**resolve_model_data_config(module), is_training=False)
        return VisionModel(
            module.eval(),
            preprocess=transform,
            classes=class_names(config),
            name=f"timm:{architecture}" if own else f"timm:{architecture}.{config.tag}",
            details={"weights": origin} if own else {"weights": origin, "licence": config.license},
        )

    def wrap(self, module: nn.Module) -> VisionModel | None:
        """Return a classifier with the preprocessing of its own configuration; None for others.

        Class names are those of the configuration's weights, unless the classifier was replaced.
        """
        found = getattr(module, "pretrained_cfg", None)
        if not isinstance(found, dict) or not getattr(module, "num_classes", 0):
            return None
        config = PretrainedCfg(**found)
        same = module.num_classes == config.num_classes
        if same and not classifies(config):
            return None
        transform = create_transform(**resolve_model_data_config(module), is_training=False)
        return VisionModel(
            module,
            preprocess=transform,
            classes=class_names(config) if same else None,
            name=type(module).__name__,
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return all architectures with the tags of their weights; nothing is downloaded."""
        tags: dict[str, list[str]] = {}
        for full in timm.list_pretrained():
            architecture, _, tag = full.partition(".")
            tags.setdefault(architecture, []).append(tag)
        for architecture in timm.list_models():
            default = timm.get_pretrained_cfg(architecture)
            best = default.tag if default is not None else ""
            known = sorted(tags.get(architecture, []), key=lambda tag: tag != best)
            yield ModelEntry(architecture, tuple(known))


def _config(architecture: str, tag: str) -> PretrainedCfg:
    """Return timm's configuration of a network and its weights.

    Raises
    ------
    CheckpointError
        If the tag is unknown.
    ModelError
        If the weights come without a classifier.
    """
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in known:
        raise CheckpointError(
            f"Unknown timm weights for {architecture}: {tag!r}.",
            (did_you_mean(tag, known) or "Available: " + (", ".join(known) or "none") + ".")
            + " 'random' or a file path also works.",
        )
    full = f"{architecture}.{tag}" if tag else architecture
    config = timm.get_pretrained_cfg(full) or PretrainedCfg(architecture=architecture)
    if not classifies(config):
        able = [one for one in known if _tag_classifies(f"{architecture}.{one}")]
        raise ModelError(
            f"{full} returns features, not class scores: its weights have no classifier.",
            f"Weights with classes: {', '.join(able)}."
            if able
            else "Add a classifier in your own code: -m path/to/file.py:factory.",
        )
    return config


def _tag_classifies(full: str) -> bool:
    config = timm.get_pretrained_cfg(full)
    return config is not None and classifies(config)
