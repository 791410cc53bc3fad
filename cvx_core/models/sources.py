"""Model sources: their contract, and the names of models."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvx_core.errors import CvxWarning, ModelError, PluginError, UsageError, did_you_mean
from cvx_core.explanations.metadata import Metadata
from cvx_core.models.checkpoints import EXPORTED, names_a_file
from cvx_core.models.factory import load_factory
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import get_component, registry
from cvx_core.plugins.isolation import REPORT, error_boundary
from cvx_core.tasks.catalogue import DEFAULT_TASK


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
    task
        What its outputs mean, as in ``"segmentation"``.
    """

    name: str
    weights: tuple[str, ...] = ()
    summary: str = ""
    task: str = DEFAULT_TASK


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

    def wrap(self, module: nn.Module) -> VisionModel | None:  # noqa: ARG002
        """Return a network of the source's library, which the user built; None if it can't be read.

        Only networks are passed whose class, or one that it inherits from, is from a package with
        the name of the source. Nothing may be guessed: a network that needs more than it says
        itself is left to the user.
        """
        return None

    @abstractmethod
    def models(self) -> Iterable[ModelEntry]:
        """Return the models on offer, by name; empty where they can't be listed (a hub)."""


def first_synonyms(names: Iterable[str]) -> list[str]:
    """Return the first of each class's synonyms, all of them where two classes share the first.

    Examples
    --------
    >>> first_synonyms(["tench, Tinca tinca", "crane, a bird", "crane, a machine"])
    ['tench', 'crane, a bird', 'crane, a machine']
    """
    full = list(names)
    short = [name.split(",")[0].strip() for name in full]
    count = Counter(short)
    return [a if a and count[a] == 1 else b for a, b in zip(short, full, strict=True)]


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Draw initial weights from a seed, and leave the caller's generator as it was.

    Sources build every model inside, with trained weights too: modules draw initial weights
    before the trained ones replace them.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


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
        Allow the weights file to run code (full unpickling). Use only with files you trust.

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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CvxWarning)
        if prefix.partition("@")[0] in plugins.names("model source"):
            model = _load_from_source(prefix, rest, weights, trust_checkpoint)
        elif colon and _looks_like_code(name):
            made = load_factory(name, weights=weights, trust_checkpoint=trust_checkpoint)
            model = made if isinstance(made, VisionModel) else wrap(made, name=name)
            if weights is not None:
                model.details = Metadata({**model.details, "weights": Path(weights).name})
        elif colon:
            plugins.find("model source", prefix)
            raise AssertionError("unreachable: find raises for an unknown source")
        else:
            raise _unknown(name)
    for one in caught:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    notes = [str(one.message) for one in caught if issubclass(one.category, CvxWarning)]
    if notes:
        model.details = Metadata({**model.details, "weights_note": " ".join(notes)})
    if device is not None or dtype is not None:
        model.to(device, dtype)
    return model


def wrap(module: nn.Module | VisionModel, *, name: str = "", weights: Any = None) -> VisionModel:
    """Wrap a network of a library as the model source of that library does.

    For networks that you built with a library of `cvx plugins`, such as its detectors: task,
    readout and preprocessing are the library's. Any other is taken as by ``VisionModel(module)``,
    for prepared tensors (B, C, H, W). `explain` does this with a network by itself.

    Parameters
    ----------
    module
        The network. It is used as it is, and a `VisionModel` is returned as it is.
    name
        For provenance.
    weights
        The published weights that the network was built with, such as
        ``ResNet50_Weights.DEFAULT``: an object with ``transforms()`` and ``meta["categories"]``.
        Preprocessing and class names are taken from it.

    Raises
    ------
    ModelError
        If `module` is no network.
    PluginError
        If a source fails.

    Examples
    --------
    >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    >>> import cvx_core as cvx
    >>> net = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    >>> cvx.wrap(net.eval(), name="mine")
    <VisionModel mine (detection, cpu, torch.float32)>
    """
    if isinstance(module, VisionModel):
        return module
    packages = {one.__module__.partition(".")[0] for one in type(module).__mro__}
    for source in registry().names("model source"):
        if source.partition("@")[0] in packages:
            with error_boundary(partial(_broken, source)):
                found = _source(source).wrap(module)
            if found is not None:
                break
    else:
        found = VisionModel(module)
    found.name = name or found.name
    if weights is not None:
        _add_weights(found, weights)
    return found


def _add_weights(model: VisionModel, weights: Any) -> None:
    meta = getattr(weights, "meta", None)
    if not callable(getattr(weights, "transforms", None)) or not isinstance(meta, Mapping):
        raise UsageError(
            f"weights must have transforms() and meta, got {type(weights).__name__}.",
            "Pass published weights, or VisionModel(module, preprocess=..., classes=[...]).",
        )
    if model.preprocess is None:
        model.preprocess = weights.transforms()
    if model.classes is None and meta.get("categories"):
        model.classes = tuple(meta["categories"])
    model.details = Metadata({**model.details, "weights": str(weights)})


def list_models(source: str) -> list[ModelEntry]:
    """Return the models that a source offers, sorted by name.

    Raises
    ------
    UnknownComponentError
        If no plugin offers the source.
    PluginError
        If the plugin fails.
    """
    found = _source(source)
    with error_boundary(lambda reason: _broken(source, reason)):
        return sorted(found.models(), key=lambda entry: entry.name)


def _source(name: str) -> ModelSource:
    return get_component("model source", name, {}, ModelSource)  # type: ignore[type-abstract]


def _load_from_source(
    source: str, name: str, weights: str | Path | None, trust_checkpoint: bool
) -> VisionModel:
    found = _source(source)
    with error_boundary(lambda reason: _broken(source, reason)):
        model: Any = found.load(name, weights=weights, trust_checkpoint=trust_checkpoint)
    if not isinstance(model, VisionModel):
        raise PluginError(
            f"The model source {source!r} returned a {type(model).__name__} for {name!r}, "
            "not a cvx_core.VisionModel.",
            REPORT,
        )
    return model


def _broken(source: str, reason: str) -> PluginError:
    return PluginError(f"The model source {source!r} failed: {reason}", REPORT)


def _looks_like_code(name: str) -> bool:
    place = name.rpartition(":")[0]
    return place.endswith(".py") or ("." in place and place.replace(".", "").isidentifier())


def _unknown(name: str) -> ModelError:
    path = Path(name)
    if path.suffix == ".py":
        hint = f"Name the factory in it: '{name}:NAME'."
    elif path.suffix == EXPORTED:
        hint = (
            "A program of torch.export has no layers, but methods at the input explain it: "
            f"-m file.py:make with def make(): return torch.export.load({str(path)!r}).module(). "
            "Export it with a dynamic batch."
        )
    elif names_a_file(name):
        hint = f"Weights need a model: -m SOURCE:NAME --weights {name}."
    else:
        hint = _nearest(name)
    return ModelError(f"Unknown model: {name!r}.", hint)


def _nearest(name: str) -> str:
    sources = registry().names("model source")
    having = []
    for source in sources:
        # A source that is broken, offered twice, or whose library is missing must not hide the
        # mistake at hand.
        with suppress(PluginError, ModelError):
            having += [f"{source}:{name}" for entry in list_models(source) if entry.name == name]
    if having:
        return "Write " + " or ".join(repr(full) for full in having) + "."
    return did_you_mean(name, sources) or (
        "Write 'source:name' with a source of " + ", ".join(sources) + ", or 'file.py:factory'."
    )
