"""Where models come from: the contract of model sources, and the names they are asked by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvx_core.discovery import registry
from cvx_core.errors import ModelError, UsageError, did_you_mean
from cvx_core.factory import load_factory
from cvx_core.options import build
from cvx_core.vision_model import VisionModel


@dataclass(frozen=True)
class ModelEntry:
    """One model that a source can load.

    Attributes
    ----------
    name
        As in ``"resnet50"``; ``source:name`` loads it.
    weights
        Names of its trained weights, best first; empty if there are none.
    summary
        One line.
    """

    name: str
    weights: tuple[str, ...] = ()
    summary: str = ""


class ModelSource(ABC):
    """Loads models by name."""

    @abstractmethod
    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model with its preprocessing and class names.

        Parameters
        ----------
        name
            What follows ``source:``; empty means the source's default, if it has one.
        weights
            Name of published weights, path of a ``.safetensors`` or ``.pth`` file, ``"random"``
            for none (seeded), or None for the best published ones.
        trust_checkpoint
            Whether a checkpoint that can run code when it is loaded may do so.

        Raises
        ------
        ModelError
            If there is no such model, near names suggested.
        CheckpointError
            If the weights can't be had or don't fit.
        """

    @abstractmethod
    def models(self) -> Iterable[ModelEntry]:
        """Return the models on offer, by name; empty where they can't be listed (a hub)."""


def load_model(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    dtype: Any = None,
    trust_checkpoint: bool = False,
) -> VisionModel:
    """Load a model by name.

    Parameters
    ----------
    name
        ``"source:name"``, such as ``"torchvision:resnet50"``; a source alone for its default model;
        or code of your own, ``"path/to/file.py:factory"`` or ``"package.module:factory"``.
    weights
        Name of published weights, path of a ``.safetensors`` or ``.pth`` file, ``"random"``, or
        None for the best published ones.
    device, dtype
        Where and in which `torch.dtype` it runs; None leaves it as loaded (CPU, float32).
    trust_checkpoint
        Allow a checkpoint that can run code when loaded. Only for files you made yourself.

    Returns
    -------
    VisionModel

    Raises
    ------
    UnknownComponentError
        If no plugin offers the source.
    ModelError, CheckpointError
        If the model or its weights can't be had.
    """
    prefix, colon, rest = name.partition(":")
    plugins = registry()
    if prefix.partition("@")[0] in plugins.names("model source"):
        source: ModelSource = build("model source", plugins.find("model source", prefix), {})
        model = source.load(rest, weights=weights, trust_checkpoint=trust_checkpoint)
    elif colon and _looks_like_code(name):
        model = load_factory(name, weights=weights, trust_checkpoint=trust_checkpoint)
    elif colon:
        plugins.find("model source", prefix)
        raise AssertionError("unreachable: find raises for an unknown source")
    else:
        raise _unknown(name)
    if device is not None or dtype is not None:
        model.to(device, dtype)
    return model


def _looks_like_code(name: str) -> bool:
    place = name.rpartition(":")[0]
    return place.endswith(".py") or ("." in place and place.replace(".", "").isidentifier())


def list_models(source: str) -> list[ModelEntry]:
    """Return the models that a source offers."""
    found: ModelSource = build("model source", registry().find("model source", source), {})
    return list(found.models())


def _unknown(name: str) -> UsageError | ModelError:
    sources = registry().names("model source")
    having = [
        f"{source}:{name}"
        for source in sources
        if any(entry.name == name for entry in list_models(source))
    ]
    if having:
        hint = "Write " + " or ".join(repr(full) for full in having) + "."
    else:
        hint = did_you_mean(name, sources) or (
            "Write 'source:name' with a source of " + ", ".join(sources) + ", or 'file.py:factory'."
        )
    return ModelError(f"{name!r} is no model.", hint)
