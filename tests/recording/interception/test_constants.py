"""With gates held, the input's part and all constants make the answer exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cvx_core.errors import MethodError, OptionError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.conservation import contributions
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models

Build = Callable[[Callable[[], Any]], Any]


def missing(model: VisionModel, x: Tensor) -> float:
    """What <g, x> and the constants leave of the answer, relative to the largest of the three."""
    with open_recording(
        model, x, Requirements("input", gates="frozen", constants=True)
    ) as recording:
        seed = torch.randn(
            recording.logits.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype
        )
        own, parts = contributions(recording, seed, "input")
        carried, added = (
            float(own.sum()),
            float(sum(part.sum() for part in parts if part is not None)),
        )
        total = float((seed * recording.logits.detach()).sum())
    assert added != 0
    return abs(total - carried - added) / max(abs(total), abs(carried), abs(added))


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_the_tiny_networks_are_complete(build: Callable[[], VisionModel]) -> None:
    assert missing(build().to(dtype=torch.float64), models.inputs().double()) < 1e-13


@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.resnet18(weights=None),
        lambda: torchvision.models.mobilenet_v2(weights=None),
        lambda: torchvision.models.mobilenet_v3_small(weights=None),
        lambda: torchvision.models.squeezenet1_1(weights=None),
        lambda: torchvision.models.shufflenet_v2_x0_5(weights=None),
        lambda: timm.create_model("convnext_atto"),
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64),
        lambda: timm.create_model("mixer_s32_224", img_size=64),
        lambda: timm.create_model("efficientnet_lite0"),
    ],
    ids=[
        "resnet", "mobilenet2", "mobilenet3", "squeezenet", "shufflenet", "convnext", "vit",
        "mixer", "lite",
    ],
)  # fmt: skip
def test_published_architectures_are_complete(
    build: Callable[[], nn.Module], seeded: Build
) -> None:
    """In float64, so that 1e-10 is rounding and no constant that was overlooked."""
    net = seeded(build).double()
    for module in net.modules():
        # As after training: some heads and most biases start at zero.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.05)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, 0, 0.1)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    assert missing(VisionModel(net), x) < 1e-10


class Odd(nn.Module):
    """Constants in every form that a network may write them in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.norm, self.group = nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4)
        self.token, self.shift = nn.Parameter(torch.randn(1, 4)), nn.Parameter(torch.randn(4))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(3 * self.norm(self.up(self.conv(x + 0.3))), inplace=True)
        x = self.group(1.5 - x)
        x += self.shift[:, None, None]
        x = torch.where(x > 0.5, x, torch.full_like(x, 0.1)).masked_fill(x > 2, 2.5)
        x = torch.maximum(x, 0.2 * torch.ones_like(x)).clamp(0.3, 1.7)
        tokens = torch.cat([self.token.expand(len(x), 1, 4), x.flatten(2).transpose(1, 2)], 1)
        return torch.addmm(self.head.bias, tokens.mean(1), self.head.weight.t())


def test_constants_written_in_odd_ways_are_found(seeded: Build) -> None:
    net = seeded(Odd).double()
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    assert missing(VisionModel(net), x) < 1e-13


def test_each_constant_has_its_own_part() -> None:
    """A convolution's bias of 2, carried on by a mean over 16 cells: 2 / 16 for each of them."""
    conv, mean = nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1)
    nn.init.constant_(conv.weight, 1.0)
    nn.init.constant_(conv.bias, 2.0)
    model = VisionModel(nn.Sequential(conv, mean, nn.Flatten()))
    x = torch.ones(1, 1, 4, 4)
    with open_recording(
        model, x, Requirements("input", gates="frozen", constants=True)
    ) as recording:
        _, [part] = contributions(recording, torch.tensor([[1.0, 0.0]]), "input")
    torch.testing.assert_close(part[0, 0], torch.full((4, 4), 0.125))
    assert part[0, 1].abs().max() == 0


def test_constants_must_be_asked_for_and_go_with_frozen_gates() -> None:
    with pytest.raises(OptionError, match="constants=True needs frozen gates"):
        Requirements("input", constants=True)
    model, x = models.convolutional(), models.inputs()
    with (
        open_recording(model, x, Requirements("input", gates="frozen")) as recording,
        pytest.raises(MethodError, match="No constants were recorded"),
    ):
        contributions(recording, torch.ones(3, 5), "input")
