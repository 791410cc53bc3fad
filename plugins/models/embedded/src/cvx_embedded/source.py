"""The networks of this plugin, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, VisionModel, did_you_mean
from cvx_core.models import load_weights, names_a_file
from cvx_embedded import efficientnet_lite0, nanodet, selfie_segmenter
from cvx_embedded.cells import candidates


@dataclass(frozen=True)
class _Network:
    """A network and what is needed to ask it about a photograph.

    `build` takes ``weights=False`` for random ones, `load` a file of the user's own.
    """

    build: Callable[..., nn.Module]
    weights: str
    preprocess: Callable[..., Any]
    classes: Callable[[], list[str]]
    summary: str
    task: str = "classification"
    readout: Callable[[Any], Any] | None = None
    load: Callable[..., None] = load_weights


DEFAULT = "efficientnet-lite0"

_NETWORKS = {
    DEFAULT: _Network(
        efficientnet_lite0.efficientnet_lite0,
        "imagenet",
        efficientnet_lite0.PREPROCESS,
        efficientnet_lite0.class_names,
        "EfficientNet-Lite0, 224 x 224, 1000 classes of ImageNet",
        load=efficientnet_lite0.load,
    ),
    f"{DEFAULT}-dense": _Network(
        efficientnet_lite0.efficientnet_lite0_dense,
        "imagenet",
        efficientnet_lite0.PREPROCESS,
        efficientnet_lite0.class_names,
        "the same, with a prediction for each of 7 x 7 positions",
        "segmentation",
        load=efficientnet_lite0.load,
    ),
    "nanodet": _Network(
        nanodet.nanodet,
        "coco",
        nanodet.PREPROCESS,
        nanodet.class_names,
        "NanoDet-g, 416 x 416, 80 classes of COCO",
        "detection",
        candidates,
    ),
    "selfie-segmenter": _Network(
        selfie_segmenter.selfie_segmenter,
        "mediapipe",
        selfie_segmenter.PREPROCESS,
        selfie_segmenter.class_names,
        "MediaPipe's person segmenter, 256 x 256",
        "segmentation",
    ),
}


class EmbeddedSource(ModelSource):
    """The networks that work without a download; the classifier is cvx's default model."""

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a network; the empty name means the classifier.

        Raises
        ------
        ModelError
            If there is none of that name.
        CheckpointError
            If the package with the weights is missing, or a file of your own doesn't fit.
        """
        name = name or DEFAULT
        found = _NETWORKS.get(name)
        if found is None:
            raise ModelError(
                f"The source 'embedded' has no model {name!r}.",
                did_you_mean(name, _NETWORKS) or "It has " + ", ".join(_NETWORKS) + ".",
            )
        if weights is None or str(weights) == found.weights:
            module, origin = found.build(), found.weights
        elif str(weights) == "random":
            module, origin = found.build(weights=False), "random"
        elif names_a_file(weights):
            module, origin = found.build(weights=False), Path(weights).name
            found.load(module, Path(weights), trust=trust_checkpoint)
        else:
            raise CheckpointError(
                f"{name} has no weights called {str(weights)!r}.",
                f"It takes {found.weights!r}, 'random', or the path of a file.",
            )
        return VisionModel(
            module,
            preprocess=found.preprocess,
            classes=found.classes(),
            task=found.task,
            name=f"embedded:{name}",
            readout=found.readout,
            details={"weights": origin},
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return the networks."""
        for name, one in _NETWORKS.items():
            yield ModelEntry(name, (one.weights,), one.summary, one.task)
