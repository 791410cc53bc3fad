"""NanoDet-g, a detector for COCO's 80 classes, with the weights of its authors.

R. Lyu, "NanoDet: Super fast and lightweight anchor-free object detection", 2020; a one-stage
detector in the manner of FCOS (Tian et al., ICCV 2019) and Generalized Focal Loss (Li et al.,
NeurIPS 2020). 3.8 million parameters, mAP 22.9 on COCO by its authors. Batch normalisation is
folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from cvx_core.models import load_weights, seeded
from cvx_embedded.cells import Cells, Level
from cvx_embedded.stretch import Stretch

PREPROCESS = Stretch(
    side=416,
    mean=(103.53 / 255, 116.28 / 255, 123.675 / 255),
    std=(57.375 / 255, 57.12 / 255, 58.395 / 255),
    bgr=True,
)
"""As the reference values were made. The authors' own keeps the aspect ratio, and pads."""

WEIGHTS_FILE = Path(__file__).parent / "weights/nanodet.safetensors"

_CLASSES, _BINS, _WIDTH = 80, 11, 128
_STRIDES = {3: 8, 4: 16, 5: 32}


def nanodet(*, weights: bool = True) -> NanoDet:
    """Return the network in evaluation mode.

    Parameters
    ----------
    weights
        Whether to load the weights that come with this package; without, they are random, the
        same each time.
    """
    with seeded():
        module = NanoDet()
    if weights:
        load_weights(module, WEIGHTS_FILE)
    return module.eval()


def class_names() -> list[str]:
    """Return the 80 class names of COCO by index."""
    return (Path(__file__).parent / "coco.txt").read_text(encoding="utf-8").splitlines()


class NanoDet(nn.Module):
    """Backbone, pyramid and one head for each level of the pyramid.

    Takes (B, 3, H, W), blue, green, red, normalised (see `PREPROCESS`); was trained at 416 x 416.
    Returns `Cells`, whose levels have strides of 8, 16 and 32 pixels: at 416 x 416 their
    numbers begin at 0, 2704 and 3380, and there are 3549.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.neck = _Neck({3: 128, 4: 256, 5: 512})
        self.head = nn.ModuleDict({f"level{level}": _Head() for level in _STRIDES})

    def forward(self, inputs: torch.Tensor) -> Cells:
        """Return all cells, with their graph."""
        features = self.neck(self.backbone(inputs))
        maps = [head(feature) for head, feature in zip(self.head.values(), features, strict=True)]
        levels = tuple(
            Level(stride, *grid.shape[-2:])
            for stride, grid in zip(_STRIDES.values(), maps, strict=True)
        )
        # (B, channels, H, W) of each level become (B, N, channels) of all.
        cells = torch.cat([grid.flatten(2).transpose(1, 2) for grid in maps], dim=1)
        sides = cells[..., _CLASSES:].reshape(*cells.shape[:2], 4, _BINS)
        return Cells(cells[..., :_CLASSES], sides, levels)


class _Backbone(nn.Module):
    """CustomCspNet; returns the outputs of its last three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv3x3(3, 32, stride=2)
        self.stage1 = _Stage(32, 32, stride=1, blocks=1)
        self.stage2 = _Stage(64, 64, stride=2, blocks=2)
        self.stage3 = _Stage(128, 128, stride=2, blocks=2)
        self.stage4 = _Stage(256, 256, stride=2, blocks=3)

    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        stem = F.max_pool2d(_activated(self.stem(inputs)), kernel_size=3, stride=2, padding=1)
        level3 = self.stage2(self.stage1(stem))
        level4 = self.stage3(level3)
        return [level3, level4, self.stage4(level4)]


class _Stage(nn.Module):
    """Blocks, and a way around them: twice as many channels come out as `width`."""

    def __init__(self, channels: int, width: int, *, stride: int, blocks: int) -> None:
        super().__init__()
        self.in_conv = _conv3x3(channels, width, stride)
        self.names = [f"block{i}" for i in range(blocks)]
        for name in self.names:
            self.add_module(name, _Block(width))
        self.out_conv = _conv3x3(width, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        around = inside = _activated(self.in_conv(inputs))
        for name in self.names:
            inside = self.get_submodule(name)(inside)
        return torch.cat([_activated(self.out_conv(inside)), around], dim=1)


class _Block(nn.Module):
    """Two convolutions, each of which gives half of the channels that come out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(width, width // 2)
        self.conv2 = _conv3x3(width // 2, width // 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = _activated(self.conv1(inputs))
        return torch.cat([_activated(self.conv2(first)), first], dim=1)


class _Neck(nn.Module):
    """A path aggregation network (Liu et al., CVPR 2018) that only resizes and adds."""

    def __init__(self, channels: dict[int, int]) -> None:
        super().__init__()
        for level, count in channels.items():
            self.add_module(f"lateral{level}", nn.Conv2d(count, _WIDTH, kernel_size=1))

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        levels = [lateral(f) for lateral, f in zip(self.children(), features, strict=True)]
        for coarse in (2, 1):
            levels[coarse - 1] = levels[coarse - 1] + _resized(levels[coarse], levels[coarse - 1])
        for fine in (0, 1):
            levels[fine + 1] = levels[fine + 1] + _resized(levels[fine], levels[fine + 1])
        return levels


class _Head(nn.Module):
    """Class logits, then the bins of the four sides, in each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _conv3x3(_WIDTH, _WIDTH)
        self.out = nn.Conv2d(_WIDTH, _CLASSES + 4 * _BINS, kernel_size=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.out(_activated(self.conv(inputs)))
        return outputs


def _conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1)


def _activated(values: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(values, negative_slope=0.1)


def _resized(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(values, size=like.shape[-2:], mode="bilinear", align_corners=False)
