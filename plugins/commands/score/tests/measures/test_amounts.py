"""Amounts of maps in regions, beside what removing the regions costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_score import amounts, score
from cvx_score.measures.amounts import FILLS, random_boxes, region_sums
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.images import make_baseline

SIZE = 12


class Linear(nn.Module):
    """Two logits: a weighted sum of the pixels, and zero."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weights = nn.Parameter(torch.randn(SIZE, SIZE, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        first = (x.sum(1) * self.weights).sum((1, 2))
        return torch.stack([first, first * 0], 1)


NET = Linear()
MODEL = cvx.VisionModel(NET)
X = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def exact() -> np.ndarray:
    """The change of the logit that each pixel causes, the mean over fills that don't see others."""
    with torch.no_grad():
        change = X - make_baseline("mean", X)
        return (change.sum(1) * NET.weights).numpy()


def test_the_sum_in_a_region_cuts_cells_where_the_region_does() -> None:
    mask = np.zeros((1, 4, 6), dtype=bool)
    mask[0, :2, :3] = True
    values = np.array([[8.0]])
    assert region_sums(values, mask).tolist() == pytest.approx([8 * 6 / 24])
    values = np.array([[1.0, 2.0], [4.0, 8.0]])
    assert region_sums(values, mask).tolist() == pytest.approx([1.0])
    values = np.arange(15.0).reshape(3, 5)
    assert region_sums(values, mask | True).tolist() == pytest.approx([values.sum()])


def test_boxes_are_as_large_as_said_and_the_same_for_a_seed() -> None:
    boxes = random_boxes((40, 60), 50, 4)
    assert np.array_equal(boxes, random_boxes((40, 60), 50, 4))
    assert not np.array_equal(boxes, random_boxes((40, 60), 50, 5))
    rows, columns = boxes.any(2).sum(1), boxes.any(1).sum(1)
    assert np.array_equal(rows * columns, boxes.sum((1, 2)))
    assert rows.min() >= 6
    assert rows.max() <= 20
    assert columns.min() >= 9
    assert columns.max() <= 30


def test_the_change_is_the_mean_over_the_fills() -> None:
    mask = np.zeros((2, SIZE, SIZE), dtype=bool)
    mask[0, 2:7, 3:9] = mask[1, 8:, :4] = True
    found = amounts(MODEL, X[:1], exact()[:1], 0, regions=[mask])
    expected = []
    for name in FILLS[:2]:
        cut = torch.where(torch.from_numpy(mask)[:, None], make_baseline(name, X[:1]), X[:1])
        with torch.no_grad():
            expected.append((NET(X[:1]) - NET(cut))[:, 0])
    others = 3 * found.changes[0] - torch.stack(expected).sum(0).numpy()
    from cvx_score import impute

    cut = impute(X[:1].expand(2, -1, -1, -1), torch.from_numpy(mask))
    with torch.no_grad():
        np.testing.assert_allclose(others, (NET(X[:1]) - NET(cut))[:, 0], atol=1e-4)
    assert found.passes == 1 + 2 * len(FILLS)


def test_the_exact_map_of_a_linear_network_is_at_its_word_and_twice_it_is_half() -> None:
    one = amounts(MODEL, X, exact(), 0, regions=24)
    assert one.correlation > 0.9
    assert 0.7 < one.slope < 1.3
    twice = amounts(MODEL, X, 2 * exact(), 0, regions=24)
    assert twice.slope == pytest.approx(one.slope / 2)
    np.testing.assert_allclose(twice.scores, one.scores)
    against = amounts(MODEL, X, -exact(), 0, regions=24)
    np.testing.assert_allclose(against.scores, -one.scores)
    assert np.array_equal(one.changes, against.changes)


def test_a_map_of_noise_tells_nothing() -> None:
    noise = np.random.default_rng(1).normal(size=(2, SIZE, SIZE))
    assert abs(amounts(MODEL, X, noise, 0, regions=64).correlation) < 0.5


@pytest.mark.parametrize("regions", [1, 0, -3, True])
def test_less_than_two_regions_are_refused(regions: int) -> None:
    with pytest.raises(cvx.OptionError, match="regions must be 2 or more"):
        amounts(MODEL, X, exact(), 0, regions=regions)


def test_score_gives_correlation_and_slope_and_the_reason_for_a_constant_map() -> None:
    maps = {"exact": exact(), "flat": np.stack([exact()[0], np.ones((SIZE, SIZE))])}
    first, second = score(MODEL, X, maps, 0, measures=["amounts"])
    assert first.value is not None
    assert first.value > 0.8
    assert first.details["slope"] == pytest.approx(1, abs=0.3)
    assert second.values[1] is None
    assert "constant" in second.reasons[1]
    from cvx_score.report import table

    assert f"exact: removing a region costs {first.details['slope']:.2f} logits" in table([first])


def test_what_removal_costs_is_measured_once_for_several_maps() -> None:
    costs: dict[object, np.ndarray] = {}
    first = amounts(MODEL, X, exact(), 0, costs=costs)
    again = amounts(MODEL, X, -exact(), 0, costs=costs)
    other = amounts(MODEL, X, exact(), 1, costs=costs)
    assert first.passes == other.passes == 2 + 2 * 16 * len(FILLS)
    assert again.passes == 2
    np.testing.assert_array_equal(first.changes, again.changes)


def test_only_maps_in_the_unit_of_the_score_have_a_slope() -> None:
    from cvx_score.report import table

    methods = ["input-x-gradient", "gradient-error"]
    task = "regression:unit=years,tolerance=5"
    model = cvx.VisionModel(nn.Sequential(NET, nn.Linear(2, 1)), classes=["age"], task=task)
    for asked, unit in ((MODEL, "logits"), (model, "years")):
        own, *others = cvx.score(asked, X, methods, measures=["amounts"])
        assert own.details["unit"] == unit
        [line] = [one for one in table([own, *others]).splitlines() if "removing" in one]
        slope = own.details["slope"]
        assert line == (
            f"input-x-gradient: removing a region costs {slope:.2f} {unit} for every 1.00 that "
            "the map gives it."
        )
        assert all("slope" not in one.details and one.value is not None for one in others)


def test_a_map_without_a_meaningful_sum_has_no_slope_though_its_unit_fits() -> None:
    [own, _] = cvx.explain(MODEL, X, "input-x-gradient", 0)
    found = [one.replace(evidence={"additive": False}) for one in (own, own)]
    [scored] = score(MODEL, torch.cat([X[:1], X[:1]]), found, measures=["amounts"])
    assert "slope" not in scored.details
