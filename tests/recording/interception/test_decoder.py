"""Functions at the end of a network that make its values, under frozen gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import MethodError, VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.recording.recording import Recording

X = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ANCHORS = [[0.1, 0.2], [0.3, 0.4]]


class Values(nn.Module):
    """Four linear values of the input, and what is made of them."""

    def __init__(self, end: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(48, 4, dtype=torch.float64)
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.linear(x.flatten(1)))


def sides(z: Tensor) -> Tensor:
    centre, size = z.sigmoid().chunk(2, dim=1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def anchored(z: Tensor) -> Tensor:
    anchors = torch.tensor(ANCHORS, dtype=z.dtype)
    centre, size = z[:, :2] * anchors[1] + anchors[0], z[:, 2:].exp() * anchors[1]
    return torch.stack([centre - 0.5 * size, centre + 0.5 * size], dim=2).flatten(1)


def expected_bin(z: Tensor) -> Tensor:
    return (z.view(-1, 2, 2).softmax(-1) * torch.arange(2.0, dtype=z.dtype)).sum(-1)


ENDS = {
    "sigmoid": torch.sigmoid,
    "module": nn.Sigmoid(),
    "scaled": lambda z: 80 * z.sigmoid() + 0.1,
    "last of several": lambda z: torch.stack([z.sigmoid(), (2 * z).sigmoid()])[-1],
    "sides": sides,
    "anchored": anchored,
    "expected bin": expected_bin,
    "softplus": nn.functional.softplus,
    "inverse": lambda z: 1 / (0.1 + z.sigmoid()),
}


def recorded(end: Callable[[Tensor], Any]) -> Recording:
    model = VisionModel(Values(end), task="regression")
    return open_recording(model, X, Requirements("input", gates="frozen", tape=True))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_makes_the_values_has_its_own_derivative(end: Callable[[Tensor], Any]) -> None:
    x = X.clone().requires_grad_()
    values = Values(end)(x)
    [expected] = torch.autograd.grad(values[:, 1].sum(), x)
    assert expected.abs().max() > 1e-3
    with recorded(end) as recording:
        torch.testing.assert_close(recording.logits.detach(), values.detach(), rtol=0, atol=0)
        seed = torch.zeros_like(values)
        seed[:, 1] = 1
        gradient = recording.gradient(seed, "input")
        torch.testing.assert_close(gradient, expected)
        # The tangent is affine: what it is at zero is the constant part.
        constant = recording.replay("input", torch.zeros_like(X))
    torch.testing.assert_close((gradient * X).sum() + constant[0, 1], values[0, 1].detach())


INSIDE = {
    "layer behind": lambda z: nn.functional.linear(z.sigmoid(), torch.eye(4, dtype=z.dtype)),
    "overwritten": lambda z: torch.cat([z.sigmoid(), z.mul_(2).tanh().exp()], dim=1).round(),
    "not the only one": lambda z: torch.stack([z.sigmoid(), z.exp()]).prod(0),
}


@pytest.mark.parametrize("end", INSIDE.values(), ids=INSIDE)
def test_frozen_functions_inside_the_network_stay_constant(end: Callable[[Tensor], Any]) -> None:
    with recorded(end) as recording, pytest.raises(MethodError, match="No gradient flows"):
        recording.gradient(torch.ones_like(recording.logits), "input")


def test_a_gate_stays_frozen() -> None:
    module = Values(lambda z: z * z.sigmoid())
    z = module.linear(X.flatten(1)).detach()
    with recorded(module.end) as recording:
        gradient = recording.gradient(torch.ones_like(z), "input")
    expected = z.sigmoid() @ module.linear.weight
    torch.testing.assert_close(gradient.flatten(1), expected.detach())


def test_maps_of_a_value_behind_a_sigmoid_follow_its_slope() -> None:
    model = VisionModel(Values(torch.sigmoid), task="regression")
    plain = VisionModel(Values(lambda z: z), task="regression")
    slope = float(model.logits(X)[0, 2] * (1 - model.logits(X)[0, 2]))
    for method in ("activation-error:rule=frozen,layer=input", "lrp-epsilon:layer=input"):
        [one], [other] = (cvx.explain(m, X, method, target=2) for m in (model, plain))
        torch.testing.assert_close(
            torch.tensor(one.values), slope * torch.tensor(other.values), rtol=1e-5, atol=1e-7
        )


def test_deep_lift_has_the_difference_from_the_baseline() -> None:
    model = VisionModel(Values(torch.sigmoid), task="regression")
    [one] = cvx.explain(model, X, "deep-lift", target=2)
    values = model.logits(torch.cat([X, torch.zeros_like(X)]))[:, 2]
    assert one.values.sum() == pytest.approx(float(values[0] - values[1]), rel=1e-5)
