"""Noisy linear imputation, against the equations solved outright."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_score import impute
from hypothesis import given, settings, strategies as st

from cvx_core import MethodError


def removed(*pixels: tuple[int, int], shape: tuple[int, int] = (5, 5)) -> torch.Tensor:
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    for row, column in pixels:
        mask[0, row, column] = True
    return mask


def outright(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Solve the paper's equations as a full matrix, one for each removed pixel."""
    height, width = mask.shape
    unknown = {tuple(place): k for k, place in enumerate(np.argwhere(mask))}
    matrix, right = np.zeros((len(unknown), len(unknown))), np.zeros(len(unknown))
    for (row, column), k in unknown.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at = row + dy, column + dx
                if (dy, dx) == (0, 0) or not (0 <= at[0] < height and 0 <= at[1] < width):
                    continue
                weight = 1 / 12 if dy and dx else 1 / 6
                matrix[k, k] += weight
                if at in unknown:
                    matrix[k, unknown[at]] -= weight
                else:
                    right[k] += weight * image[at]
    filled = image.copy()
    filled[mask] = np.linalg.solve(matrix, right)
    return filled


def test_a_pixel_is_the_weighted_mean_of_its_eight_neighbours() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 1, 2], image[0, 0, 1, 1], image[0, 0, 2, 2] = 6.0, 12.0, 99.0
    found = impute(image, removed((2, 2)), tolerance=1e-12)
    assert found[0, 0, 2, 2].item() == pytest.approx(6 / 6 + 12 / 12)
    assert found[0, 0, 1, 1].item() == 12.0


def test_in_a_corner_the_neighbours_that_there_are_share_the_weight() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 0, 1] = 5.0
    # 1/6 for each side and 1/12 for the diagonal: two fifths of 5.
    assert impute(image, removed((0, 0)))[0, 0, 0, 0].item() == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(9, 14), (16, 16), (37, 21)])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.97])
def test_it_solves_the_equations(height: int, width: int, share: float) -> None:
    draw = np.random.default_rng(0)
    image = draw.normal(size=(height, width))
    mask = draw.random((height, width)) < share
    found = impute(
        torch.from_numpy(image)[None, None], torch.from_numpy(mask)[None], tolerance=1e-11
    )
    np.testing.assert_allclose(found[0, 0].numpy(), outright(image, mask), atol=1e-9)


def test_a_large_hole_is_solved_too_and_in_float32() -> None:
    image = torch.linspace(-2, 2, 48).expand(1, 3, 48, 48).clone()
    mask = torch.zeros(1, 48, 48, dtype=torch.bool)
    mask[:, 2:-2, 2:-2] = True
    # A ramp is its own mean of neighbours. The tolerance bounds the residual, which a hole of
    # 44 pixels lets grow into an error some 44^2 times as large at worst, far less here.
    assert (impute(image, mask) - image).abs().max() < 5e-3


def test_images_of_a_batch_don_t_meet() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 12, 12, generator=draw)
    masks = torch.rand(5, 12, 12, generator=draw) < 0.5
    together = impute(images, masks, tolerance=1e-6)
    alone = torch.cat(
        [impute(images[i : i + 1], masks[i : i + 1], tolerance=1e-6) for i in range(5)]
    )
    assert torch.allclose(together, alone, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_it_stays_between_the_smallest_and_the_largest_known_value(seed: int, share: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 1, 11, 8, generator=draw, dtype=torch.float64)
    mask = torch.rand(1, 11, 8, generator=draw) < share
    if mask.all():
        return
    known, found = image[0, 0][~mask[0]], impute(image, mask, tolerance=1e-10)
    assert known.min() - 1e-8 <= found.min()
    assert found.max() <= known.max() + 1e-8


def test_nothing_can_be_guessed_from_nothing() -> None:
    with pytest.raises(MethodError, match="share below 1"):
        impute(torch.zeros(1, 1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool))
