"""Model source for torchvision's classifiers, segmenters and detectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, VisionModel, did_you_mean
from cvx_core.models import fit_weights, names_a_file, read_checkpoint
from cvx_torchvision.builder import build, rename
from cvx_torchvision.detectors import has_candidates, preprocess_of, with_candidates
from cvx_torchvision.weights import cached_file, file_name

_TASKS = {
    "classification": models,
    "segmentation": models.segmentation,
    "detection": models.detection,
}

_MEASURES = (
    ("ImageNet-1K", "acc@1", "% on ImageNet"),
    ("COCO-val2017-VOC-labels", "miou", "% mean IoU on COCO with VOC's classes"),
    ("COCO-val2017", "box_map", "mAP on COCO"),
)


class TorchvisionSource(ModelSource):
    """Image models of torchvision, each with its weights' own transforms.

    For models that also return masks or keypoints, targets are about the boxes.
    """

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model.

        Parameters
        ----------
        name
            As in ``torchvision.models.list_models()``: ``"resnet50"``.
        weights
            ``"IMAGENET1K_V1"`` and the like; None takes the best (``DEFAULT``). With ``"random"``
            or your own file, images are preprocessed as for the best. A file named like published
            weights is treated as these.
        trust_checkpoint
            See `cvx_core.load_model`.

        Raises
        ------
        ModelError
            If the model is unknown.
        CheckpointError
            If the weights are unknown, unavailable, or don't fit.
        """
        task = _names().get(name)
        if task is None:
            raise ModelError(
                f"Unknown torchvision classifier, segmenter or detector: {name!r}.",
                did_you_mean(name, _names()) or "'cvx models torchvision' lists them.",
            )
        published, path = _choose(name, weights)
        module = build(name, task, published, random=str(weights) == "random").eval()
        if path is not None:
            state = rename(module, read_checkpoint(path, trust=trust_checkpoint))
            fit_weights(module, state, str(path))
        found = task == "detection"
        return VisionModel(
            with_candidates(module) if found else module,
            preprocess=preprocess_of(module) if found else published.transforms(),
            classes=published.meta["categories"],
            task=task,
            name=f"torchvision:{name}",
            details={"weights": _origin(published, weights)},
        )

    def wrap(self, module: nn.Module) -> VisionModel | None:
        """Return a segmenter, or a detector with its preprocessing; None for other networks."""
        if type(module).__module__.startswith(models.segmentation.__name__):
            return VisionModel(module, task="segmentation")
        if not has_candidates(module):
            return None
        return VisionModel(
            with_candidates(module),
            preprocess=preprocess_of(module),
            task="detection",
            name=type(module).__name__,
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return all of them; nothing is downloaded."""
        for name, task in _names().items():
            best, *others = _published(name)
            yield ModelEntry(
                name,
                tuple(weights.name for weights in (best, *others)),
                f"{best.meta['num_params'] / 1e6:.1f} M parameters, {_accuracy(best)}",
                task,
            )


def _names() -> dict[str, str]:
    """Return the task of each model, by name."""
    return {
        name: task for task, module in _TASKS.items() for name in models.list_models(module=module)
    }


def _published(name: str) -> list[WeightsEnum]:
    """Return the published weights of a model, best first; without those of a backbone only."""
    family = models.get_model_weights(name)
    able = [weights for weights in family if weights.meta.get("categories")]
    return sorted(able, key=lambda weights: weights is not family.DEFAULT)


def _accuracy(weights: WeightsEnum) -> str:
    metrics = weights.meta["_metrics"]
    [result] = [f"{metrics[data][key]:.1f} {of}" for data, key, of in _MEASURES if data in metrics]
    return result


def _choose(name: str, weights: str | Path | None) -> tuple[WeightsEnum, Path | None]:
    """Return the weights that define the preprocessing, and the file to load."""
    published = _published(name)
    if str(weights) == "random":
        return published[0], None
    if weights is not None and names_a_file(weights):
        path = Path(weights)
        same = [one for one in published if file_name(one) == path.name]
        return (same or published)[0], path
    by_name = {"DEFAULT": published[0], **{one.name: one for one in published}}
    chosen = by_name.get("DEFAULT" if weights is None else str(weights))
    if chosen is None:
        raise CheckpointError(
            f"Unknown torchvision weights for {name}: {str(weights)!r}.",
            (did_you_mean(str(weights), by_name) or "Available: " + ", ".join(by_name) + ".")
            + " 'random' or a file path also works.",
        )
    return chosen, cached_file(chosen)


def _origin(published: WeightsEnum, weights: str | Path | None) -> str:
    if weights is not None and (str(weights) == "random" or names_a_file(weights)):
        return Path(weights).name
    return str(published.name)
