"""Occlusion (Zeiler and Fergus 2014) by hand and against Captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as OtherOcclusion
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, Error, OptionError, VisionModel, explain, get_explainer
from cvx_core.testing import models


class Sums(nn.Module):
    """z = (sum of the pixels, twice the sum of the upper left 2 x 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        corner = 2 * x[..., :2, :2].sum((1, 2, 3))
        return self.one * torch.stack([x.sum((1, 2, 3)), corner], 1)


X = torch.arange(1.0, 17.0, dtype=torch.float64).reshape(1, 1, 4, 4)


def test_windows_side_by_side_by_hand() -> None:
    """Without overlap every pixel has its own window's sum: 1 + 2 + 5 + 6 = 14 and so on."""
    [one] = get_explainer("occlusion", window=2, stride=2).explain(
        VisionModel(Sums()), X, ClassScore(0)
    )
    blocks = np.array([[14, 22], [46, 54]])
    np.testing.assert_array_equal(one.values, blocks.repeat(2, 0).repeat(2, 1))
    assert one.unit == "logits"
    assert one.evidence["windows"] == 4


def test_windows_that_overlap_are_averaged_by_hand() -> None:
    """Windows of 3 x 3 with a stride of 1: a corner is in one, the middle pixels in all four.

    Their sums: 1+2+3+5+6+7+9+10+11 = 54, 63 one to the right, 90 one down, 99 both.
    """
    [one] = get_explainer("occlusion", window=3, stride=1).explain(
        VisionModel(Sums()), X, ClassScore(0)
    )
    middle = (54 + 63 + 90 + 99) / 4
    np.testing.assert_allclose(
        one.values,
        [
            [54, 58.5, 58.5, 63],
            [72, middle, middle, 81],
            [72, middle, middle, 81],
            [90, 94.5, 94.5, 99],
        ],
    )


def test_the_window_at_the_border_is_cut_off() -> None:
    """A stride of 2 and windows of 3: the second begins at 2 and has two pixels left of its three.

    Across: windows 0-2 and 2-3. Pixel 2 is in both. Sums of the upper row of windows: 54, and
    3 + 4 + 7 + 8 + 11 + 12 = 45.
    """
    [one] = get_explainer("occlusion", window=3, stride=2).explain(
        VisionModel(Sums()), X, ClassScore(0)
    )
    np.testing.assert_allclose(one.values[0], [54, 54, (54 + 45) / 2, 45])


def test_what_covers_the_image_may_be_its_mean_colour() -> None:
    """The mean is 8.5: the first window's 14 is replaced by 34, so the sum rises by 20."""
    [one] = get_explainer("occlusion", window=2, stride=2, baseline="mean").explain(
        VisionModel(Sums()), X, ClassScore(0)
    )
    np.testing.assert_array_equal(one.values[::2, ::2], [[-20, -12], [12, 20]])


def test_what_is_lost_may_be_a_probability() -> None:
    """z = (136, 28) / 50, and (122, 0) / 50 without the upper left window of 14."""
    net, x = Sums(), X / 50
    z = np.array([136.0, 28.0]) / 50
    covered = np.array([136 - 14, 28 - 28]) / 50

    def probability(z: np.ndarray) -> float:
        return float(np.exp(z[1]) / np.exp(z).sum())

    [one] = get_explainer("occlusion", window=2, stride=2, score="probability").explain(
        VisionModel(net), x, ClassScore(1)
    )
    assert one.values[0, 0] == pytest.approx(probability(z) - probability(covered))
    assert one.unit == "probability"


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 4), (9, 5), (7, 3)])
@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_captum_s_windows_give_the_same(build: object, window: int, stride: int) -> None:
    model, batch = build(), models.inputs(2)  # type: ignore[operator]
    expected = OtherOcclusion(model.module).attribute(
        batch, (3, window, window), (3, stride, stride), baselines=0, target=3
    )
    found = get_explainer("occlusion", window=window, stride=stride).explain(
        model, batch, ClassScore(3)
    )
    for one, other in zip(found, expected[:, 0].numpy(), strict=True):
        # differences of logits in float32
        np.testing.assert_allclose(one.values, other, rtol=0, atol=2e-6)


def test_every_target_has_its_own_map_from_the_same_passes() -> None:
    """81 windows of one image in batches of 16, and one pass for the image; the maps are linear."""
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1)
    occlusion = get_explainer("occlusion", window=8, stride=3)
    ant, bee, both, wrong = occlusion.explain(
        model, batch, [[ClassScore(0), ClassScore(1), Contrast(0, 1), Error(2)]]
    )
    assert ant.evidence["windows"] == 81
    assert ant.evidence["forwards"] == 1 + 6
    assert ant.evidence["backwards"] == 0
    np.testing.assert_allclose(both.values, ant.values - bee.values, atol=1e-6)
    assert not np.array_equal(wrong.values, ant.values)


def test_under_a_small_budget_windows_run_one_by_one() -> None:
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(2)
    occlusion = get_explainer("occlusion", window=16, stride=16)
    small = occlusion.explain(model, batch, budget=1)
    large = occlusion.explain(model, batch)
    for one, other in zip(small, large, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)
    assert [one.evidence["forwards"] for one in small] == [5, 5]
    assert [one.evidence["forwards"] for one in large] == [2, 2]


def test_without_sizes_the_window_is_a_seventh_and_overlaps_by_half() -> None:
    [one] = explain(models.convolutional(), models.inputs(1), "occlusion")
    assert (one.provenance["window"], one.provenance["stride"]) == (4, 2)
    [one] = get_explainer("occlusion", stride=6).explain(models.tokens(), models.inputs(1))
    assert (one.provenance["window"], one.provenance["stride"]) == (6, 6)


def test_inputs_that_are_not_square_are_covered_to_all_borders() -> None:
    x = torch.ones(1, 1, 4, 7, dtype=torch.float64)
    [one] = get_explainer("occlusion", window=2, stride=2).explain(
        VisionModel(Sums()), x, ClassScore(0)
    )
    np.testing.assert_array_equal(one.values, [[4, 4, 4, 4, 4, 4, 2]] * 4)


def test_what_the_model_ignores_is_exactly_zero() -> None:
    """Class 1 reads the upper left corner alone."""
    [one] = get_explainer("occlusion", window=2, stride=2).explain(
        VisionModel(Sums()), X, ClassScore(1)
    )
    assert np.argwhere(one.values).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(OptionError, match="at most the size of the input"):
        get_explainer("occlusion", window=5).explain(VisionModel(Sums()), X, ClassScore(0))


@pytest.mark.parametrize(
    "parameters",
    [
        {"window": 0},
        {"window": 2.5},
        {"stride": 0},
        {"window": 2, "stride": 3},
        {"baseline": "black"},
        {"score": "loss"},
    ],
)
def test_values_that_mean_nothing_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        get_explainer("occlusion", **parameters)
