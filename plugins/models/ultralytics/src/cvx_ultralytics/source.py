"""Model source for the networks of ultralytics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from cvx_core import (
    CheckpointError,
    ModelEntry,
    ModelError,
    ModelSource,
    VisionModel,
    did_you_mean,
    is_file,
)
from cvx_core.models import fit_weights, names_a_file, read_checkpoint
from cvx_ultralytics.networks import (
    as_vision_model,
    from_checkpoint,
    from_configuration,
    library,
    rebuilt,
)

_CONFIGURATIONS = (".yaml", ".yml")


class UltralyticsSource(ModelSource):
    """Detectors, instance segmenters, segmenters and classifiers of ultralytics.

    Targets of an instance segmenter are about its boxes.
    """

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model.

        Parameters
        ----------
        name
            A checkpoint (``"best.pt"``), or a configuration (``"yolov8n.yaml"``): a file of yours
            or one that ultralytics has.
        weights
            None uses those of the checkpoint, and random ones for a configuration; or
            ``"random"``, or your own file with a state dict.
        trust_checkpoint
            See `cvx_core.load_model`.

        Raises
        ------
        ModelError
            If ultralytics is not installed, or the model is unknown or not supported.
        CheckpointError
            If the file can't be read, or the weights don't fit.
        """
        path, random = Path(name), str(weights) == "random"
        if weights is not None and not random and not names_a_file(weights):
            raise CheckpointError(
                f"Models of ultralytics have no named weights, got {str(weights)!r}.",
                "Use another checkpoint, 'random' or a file path.",
            )
        origin = "random"
        if path.suffix in _CONFIGURATIONS:
            network = from_configuration(name)
        else:
            if not is_file(path):
                raise ModelError(_missing(name), _way_out(name))
            network = from_checkpoint(path, trust=trust_checkpoint)
            network = rebuilt(network) if random else network
            origin = "random" if random else path.name
        if weights is not None and not random:
            state = read_checkpoint(weights, trust=trust_checkpoint)
            fit_weights(network, state, str(weights))
            origin = Path(weights).name
        # A local path is private, and results are shared.
        return as_vision_model(network, f"ultralytics:{path.name}", weights=origin)

    def wrap(self, module: nn.Module) -> VisionModel | None:
        """Return the network of a ``YOLO`` or ``RTDETR``, or one's own; None for its parts."""
        network = module.model if hasattr(module, "predictor") else module
        return as_vision_model(network) if hasattr(network, "yaml") else None

    def models(self) -> Iterable[ModelEntry]:
        """Return the configurations of the installed release."""
        for name in _configurations():
            task = "classification" if "-cls" in name else "detection"
            yield ModelEntry(name, task="segmentation" if "-sem" in name else task)


def _configurations() -> list[str]:
    with library():
        from ultralytics.utils import ROOT

    unsupported = ("-pose", "-obb", "-depth", "world", "yoloe")
    names = {path.name for path in (ROOT / "cfg" / "models").rglob("*.yaml")}
    return sorted(name for name in names if not any(one in name for one in unsupported))


def _missing(name: str) -> str:
    if Path(name).suffix == ".pt":
        return f"File not found: {name}."
    return f"Unknown model of ultralytics: {name!r}." if name else "ultralytics needs a model name."


def _way_out(name: str) -> str:
    if Path(name).suffix == ".pt":
        return (
            "Published checkpoints are downloaded by ultralytics: "
            f"python -c \"from ultralytics import YOLO; YOLO('{Path(name).name}')\"."
        )
    near = did_you_mean(name + ".yaml", _configurations())
    return near or "Name a checkpoint (best.pt) or a configuration (yolov8n.yaml)."
