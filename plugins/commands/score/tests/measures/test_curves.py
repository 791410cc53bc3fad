"""Insertion, deletion and ROAD on networks whose curves are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cvx_score import Curves, deletion, insertion, road
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from cvx_core import (
    Contrast,
    InputError,
    Margin,
    MethodError,
    OptionError,
    TargetError,
    UsageError,
    VisionModel,
)

SIXTEEN = torch.arange(1.0, 17.0).view(1, 1, 4, 4)


class Sum(nn.Module):
    """Two logits: zero, and the weighted sum of all pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        total = (x * self.weights).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(total), total], dim=1)


def summing(*shape: int) -> VisionModel:
    return VisionModel(Sum(torch.ones(1, *(shape or (4, 4)))), classes=["nothing", "sum"])


def small(seed: int = 0) -> VisionModel:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return VisionModel(net)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_deletion_takes_the_highest_pixels_first() -> None:
    found = deletion(summing(), SIXTEEN, SIXTEEN[0], "sum", steps=4, quantity="logit")
    # 136 less 16+15+14+13, less 12+11+10+9, and so on; the area by the trapezoidal rule.
    assert found.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.values.tolist() == [[136, 78, 36, 10, 0]]
    assert found.scores.tolist() == [(136 / 2 + 78 + 36 + 10) / 4]
    assert found.passes == 1 + 5


def test_insertion_puts_them_in_first() -> None:
    model = summing()
    found = insertion(model, SIXTEEN, SIXTEEN[0], "sum", steps=4, quantity="logit", baseline="zero")
    assert found.values.tolist() == [[0, 58, 100, 126, 136]]
    assert found.scores.tolist() == [(58 + 100 + 126 + 136 / 2) / 4]


def test_a_reference_of_one_s_own_is_where_insertion_begins() -> None:
    baseline = torch.full((1, 4, 4), 0.5)
    found = insertion(
        summing(), SIXTEEN, SIXTEEN[0], 1, steps=1, quantity="logit", baseline=baseline
    )
    assert found.values.tolist() == [[8, 136]]
    with pytest.raises(InputError, match="prepared image"):
        insertion(summing(), SIXTEEN, SIXTEEN[0], baseline=torch.zeros(3, 4, 4))


def test_the_probability_is_that_of_the_class_and_is_said() -> None:
    image = SIXTEEN / 136
    found = deletion(summing(), image, SIXTEEN[0], "sum", steps=1)
    assert found.quantity == "probability"
    assert found.values[0] == pytest.approx([1 / (1 + np.exp(-1)), 0.5])
    assert found.accuracy is not None
    # With both logits zero the first class is first.
    assert found.accuracy.tolist() == [1, 0]


def test_two_classes_have_no_probability_and_are_measured_by_their_logits() -> None:
    found = deletion(summing(), SIXTEEN, SIXTEEN[0], Contrast("nothing", "sum"), steps=1)
    assert (found.quantity, found.values.tolist()) == ("logit", [[-136, 0]])
    assert found.accuracy is None
    with pytest.raises(MethodError, match="quantity='logit'"):
        deletion(summing(), SIXTEEN, SIXTEEN[0], Contrast("nothing", "sum"), quantity="probability")


def test_a_coarse_map_is_enlarged_as_pictures_show_it() -> None:
    found = deletion(
        summing(), SIXTEEN, np.array([[0.0, 1.0]]), "sum", steps=4, quantity="logit", seed=3
    )
    # Two cells over four columns, linear between their centres: the columns on the right go first.
    columns = SIXTEEN[0, 0].sum(0)
    assert found.values[0, 2] == columns[:2].sum()


def test_several_images_give_what_each_gives_alone() -> None:
    model, images, maps = small(), drawn(3, 3, 10, 10), drawn(3, 10, 10, seed=1)
    for run in (insertion, deletion, road):
        together: Curves = run(model, images, maps)
        for i in range(3):
            alone = run(model, images[i : i + 1], maps[i : i + 1])
            np.testing.assert_allclose(together.values[i], alone.values[0], atol=1e-6)


def test_images_of_different_sizes_are_run_in_order() -> None:
    model, sizes = small(), [(8, 8), (12, 10), (8, 8)]
    images, maps = [drawn(3, *size) for size in sizes], [drawn(*size, seed=2) for size in sizes]
    found = deletion(model, images, maps, 1, steps=3)
    for i in range(3):
        alone = deletion(model, images[i], maps[i], 1, steps=3)
        np.testing.assert_allclose(found.values[i], alone.values[0], atol=1e-6)


def test_the_least_bytes_give_the_same_numbers() -> None:
    model, images, maps = small(), drawn(2, 3, 8, 8), drawn(2, 8, 8, seed=1)
    np.testing.assert_allclose(
        deletion(model, images, maps, memory=1).values,
        deletion(model, images, maps).values,
        atol=1e-6,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_order_deletes_faster_than_that_of_the_contributions(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights, image = torch.rand(1, 6, 6, generator=draw), torch.rand(1, 1, 6, 6, generator=draw)
    model = VisionModel(Sum(weights))
    perfect, random = (weights * image)[0, 0], torch.rand(6, 6, generator=draw)

    def score(values: Tensor, run: Callable[..., Curves]) -> float:
        options = {"steps": 9, "quantity": "logit", "baseline": "zero"}
        return float(run(model, image, values, 1, **options).scores[0])

    # float32 sums of 36 products
    assert score(perfect, deletion) <= score(random, deletion) + 1e-4
    assert score(perfect, insertion) >= score(random, insertion) - 1e-4


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_only_the_order_of_the_values_counts(seed: int) -> None:
    values = drawn(8, 8, seed=seed).double()
    model, image = small(), drawn(1, 3, 8, 8)
    for run in (insertion, deletion, road):
        assert np.array_equal(
            run(model, image, values).values, run(model, image, values.exp() * 3 - 7).values
        )


def test_a_network_that_mirrors_gives_mirrored_images_the_same_curves() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    model, image, values = VisionModel(net), drawn(1, 3, 9, 9), drawn(9, 9, seed=1)
    for run in (insertion, deletion):
        there, mirrored = run(model, image, values), run(model, image.flip(3), values.flip(1))
        # Sums in another order: float32 rounding.
        np.testing.assert_allclose(there.values, mirrored.values, atol=1e-6)


def test_equal_values_go_in_an_order_that_the_seed_decides() -> None:
    values = torch.zeros(4, 4)
    values[0, 0] = 1
    runs = [
        deletion(
            summing(), SIXTEEN, values, 1, steps=16, quantity="logit", within=0, seed=seed
        ).values
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert all(run[0, 1] == 135 for run in runs)


def test_road_guesses_an_even_image_right() -> None:
    image = torch.full((1, 3, 8, 8), 0.7)
    found = road(small(), image, drawn(8, 8), noise=0)
    # The imputation is solved to 1e-4 of its right-hand side.
    np.testing.assert_allclose(found.values, np.full((1, 9), found.values[0, 0]), atol=1e-4)
    assert found.scores[0] == pytest.approx(found.values.mean())
    assert found.passes == 1 + 9


def test_road_s_noise_is_on_what_was_replaced() -> None:
    model, image = summing(8, 8), torch.zeros(1, 1, 8, 8)
    values = torch.arange(64.0).view(8, 8)
    found = road(model, image, values, 1, shares=[0.5], noise=2.0, quantity="logit", seed=5)
    drawn_noise = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(5))
    assert found.values[0, 0] == pytest.approx(2 * float(drawn_noise[0, 4:].sum()), rel=1e-5)
    least = road(
        model, image, values, 1, shares=[0.5], noise=2.0, quantity="logit", seed=5, least_first=True
    )
    assert least.values[0, 0] == pytest.approx(2 * float(drawn_noise[0, :4].sum()), rel=1e-5)


def test_a_network_that_views_its_activations_as_rows_is_measured_too() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.last(self.first(x).view(len(x), -1))
            return answer

    image = drawn(1, 3, 6, 6)
    model = VisionModel(Rows())
    found = deletion(model, image, drawn(6, 6, seed=1), 2, steps=2, quantity="logit")
    assert found.values[0, 0] == pytest.approx(float(model.logits(image)[0, 2]), rel=1e-5)


def test_the_model_is_left_as_found() -> None:
    model = small()
    model.module.train()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    deletion(model, drawn(1, 3, 8, 8), drawn(8, 8))
    assert model.module.training
    assert not any(module._forward_hooks for module in model.module.modules())
    assert all(torch.equal(before[key], now) for key, now in model.module.state_dict().items())


def test_what_has_no_meaning_is_refused_with_the_way_out() -> None:
    image, values = drawn(1, 3, 8, 8), drawn(8, 8)
    with pytest.raises(MethodError, match="is constant"):
        deletion(small(), image, torch.ones(8, 8))
    with pytest.raises(InputError, match="Sum the channels"):
        deletion(small(), image, [drawn(3, 8, 8)])
    with pytest.raises(InputError, match="not finite"):
        deletion(small(), image, torch.full((8, 8), torch.nan))
    with pytest.raises(UsageError, match="1 images and 2 maps"):
        deletion(small(), image, [values, values])
    with pytest.raises(UsageError, match="1 images and 2 targets"):
        deletion(small(), image, values, [0, 1])
    with pytest.raises(TargetError, match="no class 9"):
        deletion(small(), image, values, 9)
    first = int(small().logits(image).argmax())
    with pytest.raises(MethodError, match="zero seed"):
        deletion(small(), image, values, Margin(first))
    for wrong in ({"steps": 0}, {"steps": 2.5}, {"baseline": "green"}, {"quantity": "joy"}):
        with pytest.raises(OptionError):
            deletion(small(), image, values, **wrong)
    for wrong in ({"shares": [1.0]}, {"shares": []}, {"noise": -1}):
        with pytest.raises(OptionError):
            road(small(), image, values, **wrong)
