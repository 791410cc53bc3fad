"""The class activation map against the papers' formulas, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Contrast,
    Distribution,
    OptionError,
    Target,
    VisionModel,
    get_explainer,
    parse_target,
)
from cvx_core.testing import models

A = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, -1.0], [4.0, 2.0]]], dtype=torch.float64)


class Given(nn.Module):
    """Two channels of 2 x 2 cells, the input itself, and a head that reads every cell apart.

    z_0 = 4 A_1(0,0) + 8 A_1(1,1) + A_1(1,0) - 4 A_2(0,0) + 4 A_2(0,1) + 8 A_2(1,0)
    z_1 = the sum of A_2
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Identity()
        self.weight = nn.Parameter(
            torch.tensor(
                [
                    [[[4.0, 0.0], [1.0, 8.0]], [[-4.0, 4.0], [8.0, 0.0]]],
                    [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]],
                ],
                dtype=torch.float64,
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bkij,ckij->bc", self.cells(x), self.weight)


def of(model: VisionModel, batch: Tensor, target: Target, **parameters: object) -> np.ndarray:
    """Return the map of one image, float64."""
    explainer = get_explainer("class-attention", **parameters)
    [one] = explainer.explain(model, batch, target)
    return one.values.astype(np.float64)


def test_grad_cam_weights_each_channel_by_its_mean_gradient() -> None:
    """Selvaraju 2017, eq. 1: alpha_1 = (4 + 0 + 1 + 8) / 4 = 13/4, alpha_2 = (-4 + 4 + 8) / 4 = 2.

    Eq. 2 without its ReLU: 13/4 A_1 + 2 A_2.
    """
    expected = [[3.25, 2 * 3.25 - 2], [3 * 3.25 + 8, 4]]
    np.testing.assert_array_equal(of(VisionModel(Given()), A[None], ClassScore(0)), expected)


def test_hires_cam_weights_each_cell_by_its_own_gradient() -> None:
    """Draelos 2020: sum_k dz/dA_k * A_k, cell by cell."""
    expected = [[4 * 1 - 4 * 0, 0 * 2 + 4 * -1], [1 * 3 + 8 * 4, 8 * 0 + 0 * 2]]
    found = of(VisionModel(Given()), A[None], ClassScore(0), weighting="hires-cam")
    np.testing.assert_array_equal(found, expected)


def test_a_negative_map_stays_negative() -> None:
    """The ReLU of eq. 2 is the renderer's: what speaks against a class is not clipped here."""
    found = of(VisionModel(Given()), A[None], ClassScore(1))
    np.testing.assert_array_equal(found, A[1].numpy())
    assert found.min() == -1


@pytest.mark.parametrize("weighting", ["grad-cam", "hires-cam"])
def test_the_map_of_the_distribution_is_the_mean_of_the_classes_maps(weighting: str) -> None:
    """C_p = sum_c p_c C_c, the maps being linear in the seed."""
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1)
    p = model.logits(batch).softmax(1)[0].numpy()
    each = [of(model, batch, ClassScore(c), weighting=weighting) for c in range(5)]
    whole = of(model, batch, Distribution(), weighting=weighting)
    expected = sum(share * one for share, one in zip(p, each, strict=True))
    # float64 inside, float32 in the explanation
    np.testing.assert_allclose(whole, expected, atol=1e-6 * np.abs(expected).max())


def test_why_p_rather_than_q_is_the_difference_and_turns_round() -> None:
    """C_(P-Q) = C_P - C_Q = -C_(Q-P)."""
    model, batch = models.tokens().to(dtype=torch.float64), models.inputs(1)
    p, q = (of(model, batch, ClassScore(c)) for c in (2, 4))
    forth, back = of(model, batch, Contrast(2, 4)), of(model, batch, Contrast(4, 2))
    np.testing.assert_allclose(forth, p - q, atol=1e-6 * np.abs(p).max())
    np.testing.assert_array_equal(forth, -back)
    np.testing.assert_array_equal(forth, of(model, batch, parse_target("cat vs eel")))


class Circular(nn.Module):
    """Total stride 4, on a torus, so that a shifted image has no new borders."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1, padding_mode="circular"),
            nn.GELU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.parametrize("weighting", ["grad-cam", "hires-cam"])
def test_shifting_the_image_by_the_total_stride_shifts_the_map_by_a_cell(weighting: str) -> None:
    """Down by 4 pixels and left by 8: the map moves down one cell and left two."""
    torch.manual_seed(3)
    model = VisionModel(Circular().double())
    batch = models.inputs(1).double()
    here = of(model, batch, ClassScore(1), weighting=weighting)
    there = of(model, batch.roll((4, -8), (2, 3)), ClassScore(1), weighting=weighting)
    assert np.ptp(here) > 0
    np.testing.assert_allclose(
        there, np.roll(here, (1, -2), (0, 1)), atol=1e-6 * np.abs(here).max()
    )


def test_the_cells_of_a_transformer_are_its_patch_tokens_without_the_class_token() -> None:
    """Computed apart, from the first block's output (the last that the answer reads patches of)."""
    model, batch = models.tokens().to(dtype=torch.float64), models.inputs(1).double()
    net = model.module
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = net.blocks[0].register_forward_hook(keep)
    net(batch)[0, 3].backward()
    handle.remove()
    gradient = kept[0].grad
    assert gradient is not None
    assert gradient[0, 0].abs().max() > 0, "the class token counts, but not in the map"
    weights = gradient[0, 1:].mean(0)
    expected = (kept[0][0, 1:].detach() @ weights).reshape(4, 4).numpy()
    net.zero_grad()
    found = of(model, batch, ClassScore(3), weighting="grad-cam")
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("task", "weighting"), [("classification", "grad-cam"), ("segmentation", "hires-cam")]
)
def test_the_weighting_by_default_depends_on_what_a_prediction_is_of(
    task: str, weighting: str
) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()]
    layers.append(nn.Conv2d(4, 3, 3, padding=1))
    if task == "classification":
        layers += [nn.Flatten(), nn.Linear(3 * 64, 3)]
    model, image = VisionModel(nn.Sequential(*layers).eval(), task=task), torch.rand(1, 3, 8, 8)
    maps = {
        name: of(model, image, ClassScore(1), layer="1", weighting=name)
        for name in ("auto", "grad-cam", "hires-cam")
    }
    other = {"grad-cam": "hires-cam", "hires-cam": "grad-cam"}[weighting]
    np.testing.assert_array_equal(maps["auto"], maps[weighting])
    assert not np.allclose(maps["auto"], maps[other])


def test_an_unknown_weighting_suggests_the_nearest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'hires-cam'"):
        get_explainer("class-attention", weighting="hirescam")
