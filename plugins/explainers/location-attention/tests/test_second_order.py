"""Pushing a vector forward through a recording: J v."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from cvx_location_attention.receptive_field.second_order import Twice, push
from torch import Tensor, nn

from cvx_core import MethodError, Requirements, VisionModel
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models


def test_a_linear_layer_is_multiplied_with_the_vector() -> None:
    """Kernel 2 at every pixel: twice the vector, whatever the image."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 2))
    nn.init.constant_(net[0].weight, 2.0)
    v = torch.tensor([[[[1.0, 0.0], [-3.0, 5.0]]]])
    with open_recording(
        VisionModel(net), torch.randn(1, 1, 2, 2), Requirements("input", "0")
    ) as recording:
        assert push(recording, v, at="input", to="0").tolist() == (2 * v).tolist()


def of_timm(name: str, **options: object) -> Callable[[], VisionModel]:
    def build() -> VisionModel:
        torch.manual_seed(0)
        return VisionModel(timm.create_model(name, num_classes=5, **options))

    return build


def torchvision_vit() -> VisionModel:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(net.heads.head.weight)  # it is zero at first
    return VisionModel(net)


@pytest.mark.parametrize(
    "build",
    [
        models.convolutional,
        models.tokens,
        torchvision_vit,
        of_timm("resnet18"),
        of_timm("mobilenetv3_small_050"),
        of_timm("convnext_atto"),
        of_timm("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2),
    ],
    ids=["convolutional", "tokens", "torchvision-vit", "resnet", "mobilenet", "convnext", "vit"],
)
def test_it_is_the_transpose_of_pulling_back(build: Callable[[], VisionModel]) -> None:
    """<w, J v> = <J^T w, v> on the way from the input to the last grid."""
    model = build().to(dtype=torch.float64)
    model.module.eval()
    batch = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    requirements = Requirements("input", "auto", gates=Twice())
    with open_recording(model, batch, requirements) as recording:
        v, w = noise(batch), noise(recording.raw("auto"))
        pushed = push(recording, v, at="input", to="auto")
        pulled = recording.pull(w, at="auto", to="input")
        # sums of some thousand products in float64
        torch.testing.assert_close((w * pushed).sum(), (pulled * v).sum(), rtol=1e-9, atol=1e-12)
        assert pushed.abs().max() > 0
        assert not pushed.requires_grad


class Grouped(nn.Module):
    """Attention with four heads of queries, of which each two share keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(3, 8), nn.Linear(3, 4), nn.Linear(3, 4)
        self.mix, self.head = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        parts = (self.query(x), self.key(x), self.value(x))
        query, key, value = (part.unflatten(-1, (-1, 2)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        return self.head(self.mix(mixed.transpose(1, 2).flatten(2)).mean(1))


def test_heads_that_share_keys_and_values_are_pushed_through_as_they_are() -> None:
    """J v is the difference along v of the network's own tokens."""
    torch.manual_seed(0)
    model = VisionModel(Grouped().double())
    x, v = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)

    def tokens(at: Tensor) -> Tensor:
        with open_recording(model, at, Requirements("mix")) as recording:
            return recording.raw("mix")

    with open_recording(model, x, Requirements("input", "mix", gates=Twice())) as recording:
        pushed = push(recording, v, at="input", to="mix")
    differences = (tokens(x + 1e-6 * v) - tokens(x - 1e-6 * v)) / 2e-6
    # rounding of tokens near 1 over a step of 1e-6
    torch.testing.assert_close(pushed, differences, rtol=0, atol=1e-8)


def test_differences_are_the_same() -> None:
    """Of the third convolution between x - h v and x + h v, on a net with a functional GELU."""
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1).double()
    v, step = torch.randn_like(batch), 1e-6

    def third(x: Tensor) -> Tensor:
        with open_recording(model, x, Requirements("third")) as recording:
            return recording.raw("third")

    with open_recording(model, batch, Requirements("input", "third")) as recording:
        pushed = push(recording, v, at="input", to="third")
    differences = (third(batch + step * v) - third(batch - step * v)) / (2 * step)
    # a few ReLUs may switch on the way; they are of the order of the step
    torch.testing.assert_close(pushed, differences, rtol=1e-5, atol=1e-5)


def test_nothing_reaches_an_earlier_place() -> None:
    model, batch = models.convolutional(), models.inputs(1)
    with open_recording(model, batch, Requirements("first", "third")) as recording:
        v = torch.ones_like(recording.raw("third"))
        assert not push(recording, v, at="third", to="first").any()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_caller_s_gradient_mode_does_not_matter(context: Callable[[], object]) -> None:
    model, batch = models.convolutional(), models.inputs(1)
    v = torch.randn_like(batch)

    def pushed() -> Tensor:
        with open_recording(model, batch, Requirements("input", "third")) as recording:
            return push(recording, v, at="input", to="third")

    expected = pushed()
    with context():  # type: ignore[attr-defined]
        assert torch.equal(pushed(), expected)


class Once(torch.autograd.Function):
    """The identity, which forbids a second derivative."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


class Closed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(Once.apply(x)).mean((2, 3)))


def test_what_can_t_be_differentiated_twice_is_refused_in_words() -> None:
    batch = torch.randn(1, 3, 4, 4)
    with (
        open_recording(VisionModel(Closed()), batch, Requirements("input", "cells")) as recording,
        pytest.raises(MethodError, match="can't be differentiated twice"),
    ):
        push(recording, torch.ones_like(batch), at="input", to="cells")
