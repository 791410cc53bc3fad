"""Guided backpropagation and the deconvnet by hand and against Captum, and their warning."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution, GuidedBackprop
from cvx_gradient_error.deconvnet import _warn_once
from torch import Tensor, nn

from cvx_core import ClassScore, MethodError, VisionModel, explain
from cvx_core.testing import models

pytestmark = pytest.mark.filterwarnings("ignore:.*fails sanity checks")


class Two(nn.Module):
    """z_0 = (1, -2, 3, -4) relu(x) for the four pixels of a grey image."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.relu, self.head = relu, nn.Linear(4, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.0, 0.0, 0.0, 0.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(1 * x).flatten(1))


X = torch.tensor([[[[5.0, 5.0], [-5.0, -5.0]]]])
"""Open, open, closed and closed."""

RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "tensor method": Tensor.relu_,
    "relu6": lambda x: F.relu6(x / 5) * 5,
    "module relu6": lambda x: nn.ReLU6(inplace=True)(x / 5) * 5,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clamp_min_": lambda x: x.clamp_min_(0.0),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_one_layer_by_hand(relu: Callable[[Tensor], Tensor]) -> None:
    """The gradient that arrives at the ReLU is (1, -2, 3, -4), and the last two are closed.

    The plain gradient is (1, -2, 0, 0); guided backpropagation keeps what is positive and open,
    the deconvnet what is positive.
    """
    model = VisionModel(Two(relu))
    plain, guided, deconvnet = explain(
        model, X, ["saliency", "guided-backprop", "deconvnet"], ClassScore(0)
    )
    assert plain.values.ravel().tolist() == [1, 2, 0, 0]
    assert guided.values.ravel().tolist() == [1, 0, 0, 0]
    assert deconvnet.values.ravel().tolist() == [1, 0, 3, 0]
    assert guided.evidence["relus"] == deconvnet.evidence["relus"] == 1


@pytest.mark.parametrize(
    "function",
    [F.leaky_relu, F.hardtanh, lambda x: x.clamp(min=1), lambda x: x.clamp(max=2), F.gelu],
    ids=["leaky", "hardtanh", "clamp at 1", "clamp above", "gelu"],
)
def test_other_functions_keep_their_gradient(function: Callable[[Tensor], Tensor]) -> None:
    """Behind them stands a ReLU that is always open and gets a positive gradient."""

    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2, bias=False)
            nn.init.ones_(self.head.weight)

        def forward(self, x: Tensor) -> Tensor:
            weights = torch.tensor([1.0, -2.0, 3.0, -4.0])
            return self.head(F.relu(100 + (function(x).flatten(1) * weights).sum(1, True)))

    plain, guided, deconvnet = explain(
        VisionModel(Behind()), X, ["saliency", "guided-backprop", "deconvnet"], ClassScore(0)
    )
    np.testing.assert_array_equal(guided.values, plain.values)
    np.testing.assert_array_equal(deconvnet.values, plain.values)
    assert guided.evidence["relus"] == 1


class Distinct(nn.Module):
    """A network as Captum needs it: every ReLU a module of its own, none in place."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Reused(nn.Module):
    """The same network with one ReLU in place for all, as Captum can't have it."""

    def __init__(self, distinct: Distinct) -> None:
        super().__init__()
        self.body, self.head, self.relu = distinct.body, distinct.head, nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.body:
            x = self.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "oracle"), [("guided-backprop", GuidedBackprop), ("deconvnet", Deconvolution)]
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_captum_gives_the_same_where_it_can(name: str, oracle: type) -> None:
    torch.manual_seed(0)
    net, batch = Distinct(), models.inputs(2)
    expected = oracle(net).attribute(batch.clone().requires_grad_(), 3).detach().abs().amax(1)
    for module in (net, Reused(net)):
        for one, other in zip(
            explain(VisionModel(module), batch, name, ClassScore(3)), expected.numpy(), strict=True
        ):
            assert one.evidence["relus"] == 3
            np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * other.max())


@pytest.mark.parametrize("name", ["guided-backprop", "deconvnet"])
def test_a_network_without_relu_is_refused(name: str) -> None:
    """Where Captum returns the plain gradient without a word."""
    with pytest.raises(MethodError, match="has no ReLU") as caught:
        explain(models.tokens(), models.inputs(1), name)
    assert "saliency" in caught.value.hint


@pytest.mark.parametrize("name", ["guided-backprop", "deconvnet"])
def test_the_evidence_warns(name: str) -> None:
    _warn_once.cache_clear()
    with pytest.warns(UserWarning, match="fails sanity checks"):
        [one] = explain(models.convolutional(), models.inputs(1), name)
    assert "Adebayo 2018" in one.evidence["warning"]
    assert "Nie 2018" in one.evidence["warning"]


def test_the_warning_is_printed_once() -> None:
    code = (
        "from cvx_core import explain\n"
        "from cvx_core.testing import models\n"
        "for seed in range(3):\n"
        "    explain(models.convolutional(), models.inputs(1, seed), 'guided-backprop')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("fails sanity checks") == 1
    assert done.stdout == ""


def test_it_does_fail_the_sanity_check_that_the_gradient_passes() -> None:
    """The weights of the head drawn anew: the correlation of the maps before and after is kept.

    The network is deep enough for the images' edges to come through, and has random weights at
    that; the plain gradient's map changes more.
    """
    torch.manual_seed(0)
    net, batch = Distinct(), models.inputs(1)
    names = ["saliency", "guided-backprop"]
    before = explain(VisionModel(net), batch, names, ClassScore(3))
    nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(1))
    after = explain(VisionModel(net), batch, names, ClassScore(3))
    plain, guided = (
        np.corrcoef(one.values.ravel(), other.values.ravel())[0, 1]
        for one, other in zip(before, after, strict=True)
    )
    assert guided > plain
