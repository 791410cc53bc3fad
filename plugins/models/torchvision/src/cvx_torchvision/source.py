"""Classifiers of torchvision, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torchvision import models
from torchvision.models import WeightsEnum

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, VisionModel
from cvx_core.checkpoints import fit_weights, names_a_file, read_checkpoint
from cvx_core.errors import did_you_mean
from cvx_torchvision.building import build, rename
from cvx_torchvision.published import cached_file, file_name


class TorchvisionSource(ModelSource):
    """The classification models of torchvision, each with its weights' own transforms."""

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
            or a file of your own, the photographs are prepared as for the best. A file that is
            named like published weights counts as these.
        trust_checkpoint
            See `cvx_core.load_model`.

        Raises
        ------
        ModelError
            If there is no such classifier.
        CheckpointError
            If there are no such weights, they can't be had, or don't fit.
        """
        if name not in _names():
            raise ModelError(
                f"torchvision has no classifier {name!r}.",
                did_you_mean(name, _names()) or "'cvx models torchvision' lists them.",
            )
        published, path = _choose(name, weights)
        module = build(name, published, random=str(weights) == "random")
        if path is not None:
            state = rename(name, read_checkpoint(path, trust=trust_checkpoint))
            fit_weights(module, state, str(path))
        return VisionModel(
            module.eval(),
            preprocess=published.transforms(),
            classes=published.meta["categories"],
            name=f"torchvision:{name}",
            details={"weights": _origin(published, weights)},
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return all classifiers; nothing is downloaded."""
        for name in _names():
            best, *others = _published(name)
            yield ModelEntry(
                name,
                tuple(weights.name for weights in (best, *others)),
                f"{best.meta['num_params'] / 1e6:.1f} M parameters, "
                f"{_accuracy(best):.1f} % on ImageNet",
            )


def _names() -> list[str]:
    names: list[str] = models.list_models(module=models)
    return names


def _published(name: str) -> list[WeightsEnum]:
    """Return the published weights of a classifier, best first; not those of a mere backbone."""
    family = models.get_model_weights(name)
    able = [weights for weights in family if weights.meta.get("categories")]
    return sorted(able, key=lambda weights: weights is not family.DEFAULT)


def _accuracy(weights: WeightsEnum) -> float:
    return float(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"])


def _choose(name: str, weights: str | Path | None) -> tuple[WeightsEnum, Path | None]:
    """Return the weights that say how photographs are prepared, and the file to load."""
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
            f"torchvision has no weights {str(weights)!r} for {name}.",
            (did_you_mean(str(weights), by_name) or "It has " + ", ".join(by_name) + ".")
            + " 'random' or the path of a file works too.",
        )
    return chosen, cached_file(chosen)


def _origin(published: WeightsEnum, weights: str | Path | None) -> str:
    if weights is not None and (str(weights) == "random" or names_a_file(weights)):
        return Path(weights).name
    return str(published.name)
