"""DeepLIFT's promise, S(x) - S(x0), and Captum as an oracle where it can see into the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, MethodError, VisionModel, get_explainer
from cvx_core.images.baselines import make_baseline
from cvx_core.testing import models


class Distinct(nn.Module):
    """Every activation a module of its own, as Captum demands."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.ELU(),
            nn.AvgPool2d(3),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 16),
            nn.Softplus(),
            nn.Linear(16, 8),
            nn.Tanh(),
            nn.Linear(8, 8),
            nn.Sigmoid(),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def built(build: Callable[[], nn.Module]) -> VisionModel:
    torch.manual_seed(0)
    return VisionModel(build().eval()).to(dtype=torch.float64)


@pytest.mark.parametrize("name", ["zero", "mean", "blur"])
def test_as_in_captum(name: str) -> None:
    model, x = built(Distinct), models.inputs(2).double()
    attributed = DeepLift(built(Distinct).module).attribute(
        x.clone(), baselines=make_baseline(name, x), target=2
    )
    found = get_explainer("deep-lift", baseline=name).explain(model, x, ClassScore(2))
    for one, other in zip(found, attributed.detach().sum(1).numpy(), strict=True):
        # float32 of the map
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * np.abs(other).max())


class Pooled(nn.Module):
    """Max pooling behind convolutions, with a border of zeros or without."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=padding),
            nn.LeakyReLU(0.1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * (14 + padding) ** 2, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def by_captum(model: VisionModel, x: Tensor) -> tuple[np.ndarray, float]:
    """Return the map, and by how much Captum itself says that its sum misses."""
    attributed, missing = DeepLift(model.module).attribute(
        x.clone(), baselines=torch.zeros_like(x), target=2, return_convergence_delta=True
    )
    return attributed.detach().sum(1).numpy(), float(missing.abs().max())


def test_max_pooling_as_in_captum_where_captum_is_complete() -> None:
    """In a baseline of one colour all cells are as high as any; the highest now takes all.

    With a border of zeros the baseline is no longer flat, and Captum misses its own total, S(x) -
    S(x0); which cell takes a fall is then not comparable, but ours are complete.
    """
    x = models.inputs(2).double()
    expected, missing = by_captum(built(lambda: Pooled(0)), x)
    assert missing < 1e-12
    found = get_explainer("deep-lift").explain(built(lambda: Pooled(0)), x, ClassScore(2))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * np.abs(other).max())

    _, missing = by_captum(built(lambda: Pooled(1)), x)
    found = get_explainer("deep-lift").explain(built(lambda: Pooled(1)), x, ClassScore(2))
    assert missing > 1e-5
    assert all(one.evidence["residual"] < 1e-12 for one in found)


class Functions(nn.Module):
    """What Captum can't see: reuse, functions, sums in place, products, quotients, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.norm = nn.ReLU(inplace=True), nn.GroupNorm(2, 8)
        self.gate, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        y = F.gelu(self.norm(self.two(x)))
        y += x
        y = self.relu(F.max_pool2d(y - 0.3, 2)).clamp(max=1.5)
        pooled = y.mean((2, 3))
        pooled = pooled * torch.sigmoid(self.gate(pooled)) / (1 + pooled.abs())
        return self.head(pooled**2 + pooled.softmax(-1) * F.silu(pooled))


@pytest.mark.parametrize("name", ["zero", "mean", "blur"])
def test_it_is_complete_in_a_network_of_functions(name: str) -> None:
    model, x = built(Functions), models.inputs(2)
    found = get_explainer("deep-lift", baseline=name).explain(model, x, Contrast(0, 3))
    before, after = model.logits(make_baseline(name, x.double())), model.logits(x)
    for one, z0, z in zip(found, before, after, strict=True):
        total = float((z - z0)[0] - (z - z0)[3])
        assert one.evidence["total"] == pytest.approx(total, rel=1e-9)
        assert one.evidence["sum"] == pytest.approx(total, rel=1e-9)
        assert one.evidence["residual"] < 1e-9


TIMM = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 2, 1)}),
    "efficientnet": ("efficientnet_lite0", {}),
    "mobilenet": ("mobilenetv3_small_050", {}),
    "resnet": ("resnet10t", {}),
}


@pytest.mark.parametrize("layer", ["input", "auto"])
@pytest.mark.parametrize("name", TIMM)
def test_it_is_complete_on_published_architectures(name: str, layer: str) -> None:
    """Attention, layer norm, GELU, hard gates: with no list of modules."""
    architecture, options = TIMM[name]
    model = built(lambda: timm.create_model(architecture, num_classes=5, **options))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    [one] = get_explainer("deep-lift", layer=layer).explain(model, x, ClassScore(1))
    assert one.evidence["residual"] < 1e-8


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_single_precision_is_good_enough(build: Callable[[], VisionModel]) -> None:
    """Where x and x0 almost agree the quotient would be noise; there the derivative is taken."""
    double, single = (
        get_explainer("deep-lift").explain(build().to(dtype=d), models.inputs(2), ClassScore(1))
        for d in (torch.float64, torch.float32)
    )
    for one, other in zip(single, double, strict=True):
        scale = np.abs(other.values).max()
        np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-3 * scale)


def test_a_picture_equal_to_its_baseline_differs_nowhere() -> None:
    [one] = get_explainer("deep-lift").explain(built(Functions), torch.zeros(1, 3, 32, 32))
    assert np.count_nonzero(one.values) == 0
    assert one.evidence["total"] == one.evidence["residual"] == 0


class Forked(nn.Module):
    """Bright pictures take another way."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))
        return self.head(torch.tanh(x) if x.detach().mean() > 0.1 else torch.relu(x))


def test_another_way_than_the_baseline_s_is_refused_in_words() -> None:
    with pytest.raises(MethodError, match="runs other functions on the image") as caught:
        get_explainer("deep-lift").explain(built(Forked), models.inputs(1))
    assert "baseline" in caught.value.hint


def test_the_parts_of_a_changed_reference_are_kept_from_being_overwritten() -> None:
    """relu_ writes into what the baseline's own slope needs."""

    def half(inplace: bool) -> Any:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

            def forward(self, x: Tensor) -> Tensor:
                y = torch.tanh(self.one(x))
                z = y.sub_(0.1).relu_().mul_(2.0) if inplace else (y - 0.1).relu() * 2.0
                return self.head(z.mean((2, 3)))

        return built(Net)

    found, expected = (
        get_explainer("deep-lift").explain(half(i), models.inputs(1), ClassScore(0))
        for i in (True, False)
    )
    np.testing.assert_allclose(found[0].values, expected[0].values, rtol=1e-6, atol=1e-12)
    assert found[0].evidence["residual"] < 1e-12
