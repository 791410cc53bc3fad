"""RISE (Petsiuk 2018, arXiv:1806.07421) by hand, against a loop, and its standard error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_location_attention.moments import Moments
from cvx_location_attention.perturbation.rise import RISE, Masks
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, OptionError, VisionModel, explain, get_explainer
from cvx_core.testing import models


class Corner(nn.Module):
    """z = (4 times the upper left pixel, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.four = nn.Parameter(torch.tensor(4.0).double())

    def forward(self, x: Tensor) -> Tensor:
        z = self.four * x[:, 0, 0, 0]
        return torch.stack([z, 0 * z], 1)


def all_masks(masks: int, size: tuple[int, int], seed: int = 0, **more: float) -> np.ndarray:
    drawn = Masks.drawn(RISE(masks=masks, **more), size, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    return drawn.between(0, masks).numpy()


def test_a_mask_is_a_small_one_enlarged_and_shifted() -> None:
    """A single cell of 1 among zeros, over 4 x 4 pixels, two cells a side.

    A cell is 2 pixels, the enlarged mask 6 x 6, and bilinear interpolation from 2 to 6 pixels
    takes the weights 1, 1, 2/3, 1/3, 0, 0 along each axis. Shifted by (1, 0): rows 1 to 4,
    columns 0 to 3.
    """
    small = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    small[0, 0, 0, 0] = 1
    [mask] = Masks(small, torch.tensor([[1, 0]]), (4, 4)).between(0, 1)
    down, across = torch.tensor([1, 2 / 3, 1 / 3, 0]), torch.tensor([1, 1, 2 / 3, 1 / 3])
    torch.testing.assert_close(mask, (down[:, None] * across).double())


@pytest.mark.parametrize("keep", [0.5, 0.2])
def test_every_pixel_is_kept_as_often_as_it_says(keep: float) -> None:
    """Also at the borders; 4000 masks have a standard error of at most 0.5 / sqrt(4000) = 0.008."""
    masks = all_masks(4000, (20, 15), cells=4, keep=keep)
    assert masks.shape == (4000, 20, 15)
    assert masks.min() >= 0
    assert masks.max() <= 1
    np.testing.assert_allclose(masks.mean(0), keep, atol=5 * 0.008)


def test_one_cell_by_hand() -> None:
    """Masks of one cell keep the whole image or nothing, so f is 4 kept out of n, and else 0.

    The paper's map is f's mean over E[M] = (4 k / n) / (1/2); the covariance of f and M is
    4 (k/n - (k/n)^2) n / (n - 1), over 1/2.
    """
    x = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    share = all_masks(10, (3, 3), cells=1)[:, 0, 0].mean()
    options = {"masks": 10, "cells": 1, "score": "logit"}
    [one] = get_explainer("rise", centred=False, **options).explain(
        VisionModel(Corner()), x, ClassScore(0)
    )
    np.testing.assert_allclose(one.values, np.full((3, 3), 8 * share), rtol=1e-6)
    [one] = get_explainer("rise", **options).explain(VisionModel(Corner()), x, ClassScore(0))
    np.testing.assert_allclose(
        one.values, np.full((3, 3), 8 * share * (1 - share) * 10 / 9), rtol=1e-6
    )
    assert one.evidence["mean_score"] == pytest.approx(4 * share)
    assert one.unit == "logits"


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_a_loop_over_masks_gives_the_same(build: object, score: str, centred: bool) -> None:
    """All masks held at once, one forward each, mean and errors by numpy."""
    model, batch = build().to(dtype=torch.float64), models.inputs(2).double()  # type: ignore[operator]
    rise = get_explainer("rise", masks=50, cells=4, keep=0.4, score=score, centred=centred)
    found = rise.explain(model, batch, [ClassScore(1), Contrast(0, 2)], seed=5)
    masks = all_masks(50, (32, 32), seed=5, cells=4, keep=0.4)
    for one, x, seed in zip(found, batch, ([0, 1, 0, 0, 0], [1, 0, -1, 0, 0]), strict=True):
        answers = []
        for mask in masks:
            z = model.logits(x[None] * torch.from_numpy(mask))[0]
            watched = z.softmax(0) if score == "probability" else z
            answers.append(float(watched @ torch.tensor(seed, dtype=torch.float64)))
        f, m = np.array(answers)[:, None, None], masks
        if centred:
            terms = (f - f.mean(0)) * (m - m.mean(0)) / 0.4
            expected, error = terms.sum(0) / 49, terms.std(0) / 49**0.5
        else:
            terms = f * m / 0.4
            expected, error = terms.mean(0), terms.std(0) / 49**0.5
        np.testing.assert_allclose(one.values, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        assert one.evidence["standard_error"] == pytest.approx(error.mean(), rel=1e-6)
        assert one.evidence["mean_score"] == pytest.approx(f.mean(), rel=1e-9)
        assert one.evidence["masks"] == 50
        assert one.provenance["seed"] == 5


def test_the_standard_error_is_how_much_maps_differ_between_seeds() -> None:
    """Of 60 maps the deviation at a cell is known to 1 / sqrt(2 * 59) = 9 %, better on average."""
    model, batch = models.convolutional(), models.inputs(1)
    rise = get_explainer("rise", masks=200, cells=4)
    found = [rise.explain(model, batch, ClassScore(1), seed=s)[0] for s in range(60)]
    measured = np.std([one.values for one in found], 0, ddof=1).mean()
    result = np.mean([one.evidence["standard_error"] for one in found])
    assert result == pytest.approx(measured, rel=0.1)


def test_taking_off_the_mean_score_changes_the_map_by_a_constant_in_expectation() -> None:
    """The paper's map is the centred one and the mean score, up to errors of both."""
    model, batch = models.quadrants(), torch.zeros(1, 3, 32, 32)
    batch[:, :, 16:, :16] = 1
    options = {"masks": 4000, "cells": 4, "score": "logit"}
    [centred] = get_explainer("rise", **options).explain(model, batch, ClassScore(2))
    [paper] = get_explainer("rise", centred=False, **options).explain(model, batch, ClassScore(2))
    mean = centred.evidence["mean_score"]
    assert mean == pytest.approx(5, abs=0.1)  # half of the quarter is kept, and it is worth 10
    # the error of the mean of f M, whose f is 5: that of a mean of 4000 numbers, and five of it
    np.testing.assert_allclose(paper.values, centred.values + mean, atol=0.5)
    assert paper.evidence["standard_error"] > centred.evidence["standard_error"]


def test_the_map_is_high_where_keeping_matters_and_near_zero_elsewhere() -> None:
    model, batch = models.quadrants(), torch.zeros(1, 3, 32, 32)
    batch[:, :, 16:, :16] = 1
    [one] = get_explainer("rise", cells=4).explain(model, batch)
    cells = one.heatmap((2, 2))
    assert cells.argmax() == 2
    # A mask's cells are 8 pixels wide and their edges are soft, so that neighbours share a part.
    assert abs(cells[0, 1]) < 0.2 * cells.max()
    assert max(abs(cells[0, 0]), abs(cells[1, 1])) < 0.5 * cells.max()


def test_how_many_masks_run_at_once_does_not_matter() -> None:
    """One mask for one image at a time, or 8 masks for two images."""
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(2)
    rise = get_explainer("rise", masks=20)
    small, large = rise.explain(model, batch, budget=1), rise.explain(model, batch)
    for one, other in zip(small, large, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6 * other.values.max())
        assert one.evidence["standard_error"] == pytest.approx(other.evidence["standard_error"])
    assert [one.evidence["forwards"] for one in small] == [21, 21]
    assert [one.evidence["forwards"] for one in large] == [4, 4]


def test_no_more_masks_are_held_than_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    make = Masks.between

    def watched(self: Masks, start: int, stop: int) -> Tensor:
        sizes.append(stop - start)
        return make(self, start, stop)

    monkeypatch.setattr(Masks, "between", watched)
    get_explainer("rise", masks=100).explain(models.convolutional(), models.inputs(1))
    assert sizes == [16] * 6 + [4]


def test_another_seed_draws_other_masks() -> None:
    model, batch = models.convolutional(), models.inputs(1)
    first, second = (
        get_explainer("rise", masks=20).explain(model, batch, seed=s)[0] for s in (0, 1)
    )
    assert not np.array_equal(first.values, second.values)


def test_moments_are_numpy_s_covariance() -> None:
    """Far from zero too: scores about 100 with a deviation of 1."""
    generator = torch.Generator().manual_seed(0)
    f = 100 + torch.randn(30, 2, generator=generator).double()
    m = torch.rand(30, 4, generator=generator).double()
    moments = Moments()
    for part in (slice(0, 1), slice(1, 20), slice(20, 30)):
        moments.add(f[part], m[part])
    expected = np.cov(f.T.numpy(), m.T.numpy())[:2, 2:]
    np.testing.assert_allclose(moments.covariance()[0], expected, rtol=1e-9)
    np.testing.assert_allclose(moments.mean(), f.mean(0))
    np.testing.assert_allclose(moments.product()[0], (f.mT @ m) / 30)


def test_the_default_asks_for_the_probability_of_the_answer() -> None:
    [one] = explain(models.quadrants(), torch.rand(1, 3, 16, 16), "rise")
    assert one.unit == "probability"
    assert one.target.kind == "predicted"
    assert one.evidence["class_specific"] is True


@pytest.mark.parametrize(
    "parameters",
    [
        {"masks": 1},
        {"masks": 10.5},
        {"cells": 0},
        {"cells": 2.5},
        {"keep": 0},
        {"keep": 1},
        {"keep": float("nan")},
        {"baseline": "black"},
        {"score": "loss"},
    ],
)
def test_values_that_mean_nothing_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        get_explainer("rise", **parameters)
