"""Fills of a perturbed region."""

from __future__ import annotations

import pytest
import torch
from cvx_why.search.inpainting import FILLS, Fill, elsewhere, from_image, inpaint, mean
from torch import Tensor


def hole(height: int = 40, width: int = 56) -> Tensor:
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    mask[..., 12:24, 20:34] = True
    return mask


def noise(seed: int = 0) -> Tensor:
    return torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fill", [*FILLS.values(), elsewhere, from_image(noise(1))])
def test_pixels_far_from_the_region_stay_as_they_are(fill: Fill) -> None:
    # The soft rim is one pixel wide here.
    near = torch.nn.functional.max_pool2d(hole().float(), 7, 1, 3) > 0
    changed = (fill(noise(), hole()) != noise()).any(1, keepdim=True)
    assert changed[hole()].all()
    assert not changed[~near].any()


def test_inpainting_knows_nothing_of_what_was_there() -> None:
    other = torch.where(hole(), noise(1), noise())
    assert torch.equal(inpaint(noise(), hole()), inpaint(other, hole()))


def test_inpainting_continues_an_even_surface() -> None:
    even = torch.full((1, 3, 40, 56), 0.25)
    spoilt = torch.where(hole(), noise(), even)
    # Weights that add up to one keep a constant, up to rounding.
    torch.testing.assert_close(inpaint(spoilt, hole()), even, atol=1e-6, rtol=0)


def test_inpainting_stays_between_what_surrounds_it() -> None:
    # A membrane has no value beyond those of its rim: it is a mean of means of them.
    ramp = torch.linspace(0, 1, 56).expand(1, 1, 40, 56)
    filled = inpaint(torch.where(hole(), torch.full_like(ramp, 9.0), ramp), hole())
    assert filled[hole()].min() >= 0
    assert filled[hole()].max() <= 1


def test_a_region_without_surroundings_is_filled_with_numbers() -> None:
    everything = torch.ones(1, 1, 40, 56, dtype=torch.bool)
    for fill in FILLS.values():
        assert fill(noise(), everything).isfinite().all()


def test_several_regions_are_filled_as_each_alone() -> None:
    other = hole().flip(3)
    both = inpaint(noise().expand(2, -1, -1, -1), torch.cat([hole(), other]))
    # Batches are summed in another order.
    torch.testing.assert_close(both[:1], inpaint(noise(), hole()), atol=1e-6, rtol=0)
    torch.testing.assert_close(both[1:], inpaint(noise(), other), atol=1e-6, rtol=0)


def test_the_mean_is_the_picture_s_and_elsewhere_is_half_a_picture_away() -> None:
    # The rim's weight is 1 inside of the region.
    picture = noise()
    assert torch.allclose(mean(picture, hole())[0, :, 18, 27], picture.mean(dim=(2, 3))[0])
    assert torch.equal(elsewhere(picture, hole())[0, :, 18, 30], picture[0, :, 38, 2])
    assert torch.equal(from_image(noise(1))(picture, hole())[0, :, 18, 27], noise(1)[0, :, 18, 27])
