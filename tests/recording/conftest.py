"""What the tests of the engine share: conservation, measured in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording

Residual = Callable[..., float]


def as_model(module: nn.Module | VisionModel) -> VisionModel:
    return module if isinstance(module, VisionModel) else VisionModel(module)


def relative_gap(total: Tensor, sum_over_place: Tensor, constant: Tensor) -> float:
    """The gap over the largest of its three parts, for the worst image of the batch."""
    parts = torch.stack([total, sum_over_place, constant]).double()
    gap = (parts[0] - parts[1] - parts[2]).abs()
    return float((gap / parts.abs().amax(0).clamp_min(1e-300)).max())


def measured_residual(
    module: nn.Module | VisionModel,
    inputs: Tensor,
    place: str = "input",
    *,
    baseline: Tensor | None = None,
) -> float:
    """How far <s, f(x)> is from <g, A> + <s, f_frozen(0)>, for a seed without structure.

    With a baseline A' the constants cancel: <s, f(x)> - <s, f_frozen(A')> = <g, A - A'>.
    """
    model = as_model(module)
    with open_recording(model, inputs, Requirements(place, gates="frozen", tape=True)) as recording:
        noise = torch.Generator().manual_seed(3)
        seed = torch.randn(recording.logits.shape, generator=noise).to(recording.logits)
        [gradient] = recording.gradients(seed, place)
        start = torch.zeros_like(recording.raw(place)) if baseline is None else baseline
        carried = (gradient * (recording.raw(place) - start)).double().flatten(1).sum(1)
        constant = (seed * recording.replay(place, start)).double().sum(1)
        total = (seed * recording.logits.detach()).double().sum(1)
    return relative_gap(total, carried, constant)


@pytest.fixture
def residual() -> Residual:
    return measured_residual


@pytest.fixture
def seeded() -> Callable[[Callable[[], Any]], Any]:
    """Builds a network with fixed weights and leaves the global random state alone."""

    def build(make: Callable[[], Any]) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make().eval()

    return build


Function = Callable[[Tensor], Tensor]


class Between(nn.Module):
    """A function between a convolution and a projection of whatever it returns."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.function(self.first(x)).flatten(1)
        generator = torch.Generator().manual_seed(5)
        weights = torch.randn(features.shape[1], 3, generator=generator, dtype=x.dtype)
        return features @ weights + 0.3


def net_around(function: Function) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return VisionModel(Between(function).double().eval())


def small_images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)


def check_function(function: Function) -> None:
    """Value, conservation, and replay of one function between two linear ones, in float64."""
    model, x = net_around(function), small_images()
    with torch.no_grad():
        plain = model.module(x)
    for requirements in (Requirements("input"), Requirements("input", gates="frozen", tape=True)):
        with open_recording(model, x, requirements) as recording:
            # A replaced formula may round differently: a few units in the last place.
            torch.testing.assert_close(recording.logits.detach(), plain, rtol=1e-12, atol=1e-12)
            for _ in range(2 * requirements.tape):  # a replay must not spoil what is on the tape
                again = recording.replay("input", x)
                torch.testing.assert_close(again, plain, rtol=1e-11, atol=1e-11)
    # Both gaps are sums of some hundred float64 numbers: rounding is near 1e-14.
    assert measured_residual(model, x) < 1e-11
    assert measured_residual(model, x, baseline=small_images(seed=1)) < 1e-11
    assert measured_residual(model, x, "first") < 1e-11


@pytest.fixture
def conserved() -> Callable[[Function], None]:
    return check_function


@pytest.fixture
def between() -> Callable[[Function], VisionModel]:
    return net_around


class Plain(nn.Module):
    """Convolutions with a ReLU that is used twice, in place, and normalisation by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.one(x)))
        x = self.relu(self.two(x))
        return self.head(self.dropout(x.mean((2, 3))))


@pytest.fixture
def model(seeded: Callable[..., Any]) -> VisionModel:
    return VisionModel(seeded(Plain).double())
