"""Maps aligned with the contours of the image."""

from __future__ import annotations

import torch
from cvx_why.search.contours import snap_to_contours, weight_by_color
from cvx_why.search.inpainting import smooth
from torch import Tensor


def square() -> Tensor:
    mask = torch.zeros(56, 56)
    mask[20:32, 24:36] = 1
    return mask


def coarse() -> Tensor:
    return smooth(square()[None, None], 5.0)[0, 0]


def overlap(values: Tensor) -> float:
    largest = values.flatten().topk(int(square().sum())).indices
    return float(square().flatten()[largest].mean())


def test_a_blurred_map_comes_back_to_the_square_that_the_picture_shows() -> None:
    picture = torch.stack([square(), 0.5 * square(), 1 - square()])[None]
    shifted = coarse().roll((2, 2), (0, 1))
    # Two pixels off each way, 10 / 12 of its rows and columns are left: 0.69.
    assert overlap(shifted) < 0.75
    assert overlap(snap_to_contours(shifted, picture)) > 0.9


def test_the_scale_of_the_picture_makes_no_difference() -> None:
    picture = torch.stack([square(), 0.5 * square(), 1 - square()])[None]
    scaled = snap_to_contours(coarse(), 255 * picture - 100)
    # Float32 squares of 255 leave some five digits.
    torch.testing.assert_close(scaled, snap_to_contours(coarse(), picture), atol=1e-3, rtol=0)


def test_an_even_picture_has_no_outlines_and_the_map_keeps_its_peak() -> None:
    found = snap_to_contours(coarse(), torch.full((1, 3, 56, 56), 0.5))
    assert found.isfinite().all()
    row, column = divmod(int(found.argmax()), 56)
    assert 24 <= row <= 27
    assert 28 <= column <= 31


def test_a_map_of_nothing_stays_nothing() -> None:
    assert not snap_to_contours(torch.zeros(56, 56), torch.rand(1, 3, 56, 56)).any()


def test_what_shows_between_lines_is_told_from_them_by_its_colour() -> None:
    lines = torch.zeros(56, 56)
    lines[20:36:4, 20:36] = 1
    picture = torch.stack([lines, 0 * lines, 1 - lines])[None]
    block = torch.zeros(56, 56)
    block[20:36, 20:36] = 1
    found = weight_by_color(block, picture)
    # Nothing around the block is red; of the block itself three quarters are blue, of the ring all:
    # 0.75 / (0.75 + 1).
    torch.testing.assert_close(found[lines > 0], torch.ones(64))
    torch.testing.assert_close(found[(block > 0) & (lines == 0)], torch.full((192,), 0.75 / 1.75))
    assert not found[block == 0].any()


def test_colours_of_any_number_of_channels_are_told_apart() -> None:
    for channels in (1, 2, 5):
        picture = square().expand(1, channels, -1, -1)
        found = weight_by_color(coarse(), picture)
        assert found.isfinite().all()
        assert overlap(found) > overlap(coarse())
