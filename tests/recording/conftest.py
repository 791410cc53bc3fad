"""What the tests of the engine share: conservation, measured in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvx_core.recording import Needs, Recording
from cvx_core.vision_model import VisionModel

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
    reference: Tensor | None = None,
) -> float:
    """How far <s, f(x)> is from <g, A> + <s, f_frozen(0)>, for a seed without structure.

    With a reference A' the constants cancel: <s, f(x)> - <s, f_frozen(A')> = <g, A - A'>.
    """
    model = as_model(module)
    with Recording(model, inputs, Needs(place, gates="frozen", tape=True)) as recording:
        noise = torch.Generator().manual_seed(3)
        seed = torch.randn(recording.logits.shape, generator=noise).to(recording.logits)
        [gradient] = recording.gradients(seed, place)
        start = torch.zeros_like(recording.raw(place)) if reference is None else reference
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
