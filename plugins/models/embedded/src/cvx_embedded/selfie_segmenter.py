"""MediaPipe's Selfie Segmentation: person or not, for each pixel.

A MobileNetV3-like encoder (Howard et al., ICCV 2019) and a decoder in three steps, 0.1 million
parameters. Meant for people close to the camera.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from cvx_core.models import load_weights, seeded
from cvx_embedded.stretch import Stretch

PREPROCESS = Stretch(side=256)

WEIGHTS_FILE = Path(__file__).parent / "weights/selfie-segmenter.safetensors"

_SIXTH = 0.1666259765625
"""1/6 as the published network has it, in half precision."""


def selfie_segmenter(*, weights: bool = True) -> SelfieSegmenter:
    """Return the network in evaluation mode.

    Parameters
    ----------
    weights
        Whether to load the weights that come with this package; without, they are random, the
        same each time.
    """
    with seeded():
        module = SelfieSegmenter()
    if weights:
        load_weights(module, WEIGHTS_FILE)
    return module.eval()


def class_names() -> list[str]:
    """Return the names of the two classes by index; the network's logit is the second's."""
    return ["background", "person"]


def _hard_swish(values: torch.Tensor) -> torch.Tensor:
    """Return x * relu6(x + 3) / 6, with the network's own sixth."""
    return F.hardswish(values) * (6 * _SIXTH)


class SelfieSegmenter(nn.Module):
    """Encoder, context and decoder.

    Takes (B, 3, H, W), RGB from 0 to 1, H and W even; was trained at 256 x 256. Returns one logit
    for each pixel, (B, 1, H, W): its sigmoid is the probability of a person.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, kernel_size=3, stride=2)
        self.encoder = nn.ModuleDict(
            {
                "block1": _Block(16, 16, 16, stride=2, squeezed=8),
                "block2": _Block(16, 72, 24, stride=2),
                "block3": _Block(24, 88, 24),
                "block4": _Block(24, 96, 32, 5, stride=2, squeezed=24, activated=_hard_swish),
                "block5": _Block(32, 128, 32, 5, squeezed=32, activated=_hard_swish),
                "block6": _Block(32, 128, 32, 5, squeezed=32, activated=_hard_swish),
                "block7": _Block(32, 96, 32, 5, squeezed=24, activated=_hard_swish),
                "block8": _Block(32, 96, 32, 5, squeezed=24, activated=_hard_swish),
            }
        )
        self.context = _Context(32, 128)
        self.decoder = nn.ModuleDict(
            {"step1": _Step(128, 24), "step2": _Step(24, 16), "step3": _Step(16, 16)}
        )
        self.head = nn.ConvTranspose2d(16, 1, kernel_size=2, stride=2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 1, H, W)."""
        values = _hard_swish(self.stem(_padded(inputs, self.stem)))
        finer = [values]
        for name, block in self.encoder.items():
            values = block(values)
            if name in ("block1", "block3"):
                finer.append(values)
        values = self.context(values)
        for step in self.decoder.values():
            values = step(values, finer.pop())
        logits: torch.Tensor = self.head(values)
        return logits


class _Block(nn.Module):
    """An inverted residual, with squeeze and excitation if `squeezed` is not 0."""

    def __init__(
        self,
        channels: int,
        expanded: int,
        width: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        squeezed: int = 0,
        activated: Callable[[torch.Tensor], torch.Tensor] = F.relu,
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, expanded, 1)
        self.depthwise = nn.Conv2d(expanded, expanded, kernel, stride, groups=expanded)
        self.squeezes = squeezed > 0
        if self.squeezes:
            self.se1 = nn.Conv2d(expanded, squeezed, 1)
            self.se2 = nn.Conv2d(squeezed, expanded, 1)
        self.project = nn.Conv2d(expanded, width, 1)
        self.activated = activated
        self.residual = stride == 1 and channels == width

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = self.activated(self.expand(inputs))
        values = self.activated(self.depthwise(_padded(values, self.depthwise)))
        if self.squeezes:
            values = values * torch.sigmoid(self.se2(F.relu(self.se1(_pooled(values)))))
        projected: torch.Tensor = self.project(values)
        return projected + inputs if self.residual else projected


class _Context(nn.Module):
    """Channels weighed by the mean over the whole image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1)
        self.gate = nn.Conv2d(channels, width, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(inputs)) * torch.sigmoid(self.gate(_pooled(inputs)))


class _Step(nn.Module):
    """Enlarge, and add what the encoder knew at that size, its channels weighed by both."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.gate1 = nn.Conv2d(width, width, 1)
        self.gate2 = nn.Conv2d(width, width, 1)
        self.conv = nn.Conv2d(width, width, 1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, inputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        size = encoded.shape[-2:]
        enlarged = self.reduce(
            F.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        )
        gate = torch.sigmoid(self.gate2(F.relu(self.gate1(_pooled(encoded + enlarged)))))
        values = F.relu(self.conv(encoded * gate + enlarged))
        return values + F.relu(self.depthwise(values))


def _padded(values: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """Pad as TensorFlow's "same" does for even sizes: an odd zero goes below and right."""
    zeros = conv.kernel_size[0] - conv.stride[0]
    before, after = zeros // 2, zeros - zeros // 2
    return F.pad(values, (before, after, before, after))


def _pooled(values: torch.Tensor) -> torch.Tensor:
    return values.mean(dim=(2, 3), keepdim=True)
