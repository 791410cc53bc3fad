"""The networks of this plugin, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, VisionModel
from cvx_core.checkpoints import names_a_file
from cvx_core.errors import did_you_mean
from cvx_embedded.efficientnet_lite0 import PREPROCESS, class_names, efficientnet_lite0, load

NAME = "efficientnet-lite0"
WEIGHTS = "imagenet"


class EmbeddedSource(ModelSource):
    """The networks that work without a download; the classifier is cvx's default model."""

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return the classifier; the empty name means it too.

        Raises
        ------
        ModelError
            If another model is asked for.
        CheckpointError
            If the package with the weights is missing, or a file of your own doesn't fit.
        """
        if name not in ("", NAME):
            raise ModelError(
                f"The source 'embedded' has no model {name!r}.",
                did_you_mean(name, [NAME]) or f"It has one: embedded:{NAME}.",
            )
        if weights is None or str(weights) == WEIGHTS:
            module, origin = efficientnet_lite0(), WEIGHTS
        elif str(weights) == "random":
            module, origin = efficientnet_lite0(weights=False), "random"
        elif names_a_file(weights):
            module, origin = efficientnet_lite0(weights=False), Path(weights).name
            load(module, Path(weights), trust=trust_checkpoint)
        else:
            raise CheckpointError(
                f"{NAME} has no weights called {str(weights)!r}.",
                f"It takes {WEIGHTS!r}, 'random', or the path of a file.",
            )
        return VisionModel(
            module,
            preprocess=PREPROCESS,
            classes=class_names(),
            name=f"embedded:{NAME}",
            details={"weights": origin},
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return the networks; those that don't classify whole images are modules so far."""
        module = "so far only as a module, from cvx_embedded"
        yield ModelEntry(
            NAME, (WEIGHTS,), "EfficientNet-Lite0, 224 x 224, 1000 classes of ImageNet"
        )
        yield ModelEntry(
            f"{NAME}-dense", (WEIGHTS,), f"the same, with an answer for each cell; {module}"
        )
        yield ModelEntry(
            "nanodet", ("coco",), f"NanoDet-g, detects 80 classes of COCO, 416 x 416; {module}"
        )
        yield ModelEntry(
            "selfie-segmenter",
            ("mediapipe",),
            f"MediaPipe's person segmenter, 256 x 256; {module}",
        )
