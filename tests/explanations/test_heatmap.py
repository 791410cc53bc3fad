"""How a map is shown: limits that few pixels can't bleach, opacity that spares the photo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cvx_core import OptionError
from cvx_core.explanations.colormaps import INFERNO, VIK, color_table
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.heatmap import Limits, Shown, colors, opacity, overlay, show
from cvx_core.testing.samples import sample_explanation


def of(values: Any, signed: bool = True, size: tuple[int, int] = (64, 48)) -> Explanation:
    return sample_explanation(size=size).replace(
        values=np.asarray(values, np.float32), extent=(0, 0, *size), signed=signed
    )


def test_a_signed_scale_is_symmetric_about_zero_and_an_unsigned_one_starts_there() -> None:
    assert show(of([[-1.0, 3.0]])).limits == Limits(-3.0, 3.0)
    assert show(of([[1.0, 3.0]], signed=False)).limits == Limits(0.0, 3.0)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([[-1.0, 3.0]], (-3.0, 3.0)),
        ([[0.0, 3.0]], (0.0, 3.0)),
        ([[-3.0, -1.0]], (-3.0, 0.0)),
        ([[0.0, 0.0]], (-1.0, 1.0)),
    ],
)
def test_the_key_has_the_side_on_which_the_map_lies(
    values: list[list[float]], ends: tuple[float, float]
) -> None:
    assert show(of(values)).ends == ends
    assert show(of([[0.0, 3.0]], signed=False)).ends == (0.0, 3.0)


def test_a_zero_map_is_fully_transparent() -> None:
    shown = show(of([[0.0, 0.0]]))
    assert shown.limits.low < shown.limits.high
    assert not opacity(shown).any()
    photo = np.asarray(overlay(of([[0.0, 0.0]]), background="color"))
    np.testing.assert_array_equal(photo, of([[0.0, 0.0]]).image)


@given(st.integers(0, 50), st.booleans(), st.floats(0.0, 1.0))
def test_opacity_grows_with_the_magnitude_and_never_hides_the_photograph(
    seed: int, signed: bool, strongest: float
) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 5)).astype(np.float32)
    shown = Shown(values, Limits(-2.0 if signed else 0.0, 2.0), 0.0)
    alpha = opacity(shown, strongest)
    assert alpha.min() >= 0
    assert alpha.max() <= strongest + 1e-6
    order = np.argsort(np.abs(values), axis=None)
    assert (np.diff(alpha.ravel()[order]) >= 0).all()


def test_opacity_is_the_same_for_and_against() -> None:
    values = np.array([[-1.5, 1.5]], np.float32)
    alpha = opacity(Shown(values, Limits(-2, 2), 0))
    assert alpha[0, 0] == alpha[0, 1] > 0


def test_the_ends_and_the_middle_of_the_scale_have_the_ends_and_the_middle_of_the_colours() -> None:
    signed = colors(Shown(np.array([[-2.0, 0.0, 2.0]], np.float32), Limits(-2, 2), 0), signed=True)
    np.testing.assert_array_equal(signed[0, 0], VIK[0])
    np.testing.assert_array_equal(signed[0, 1], VIK[128])
    np.testing.assert_array_equal(signed[0, 2], VIK[255])
    plain = colors(Shown(np.array([[0.0, 9.0]], np.float32), Limits(0, 2), 0), signed=False)
    np.testing.assert_array_equal(plain[0], [INFERNO[0], INFERNO[255]])


def test_zero_is_nearly_white_blue_is_against_and_red_is_for() -> None:
    assert (VIK[127:129] > 215).all()
    assert VIK[40][2] > VIK[40][0]
    assert VIK[215][0] > VIK[215][2]


def test_the_colour_tables_are_those_that_were_published() -> None:
    cmcrameri = pytest.importorskip("cmcrameri.cm")
    matplotlib = pytest.importorskip("matplotlib")
    places = np.linspace(0, 1, 256)
    for ours, theirs in ((VIK, cmcrameri.vik), (INFERNO, matplotlib.colormaps["inferno"])):
        np.testing.assert_allclose(ours, theirs(places)[:, :3] * 255, atol=1)


def test_where_a_map_does_not_reach_the_photograph_is_untouched() -> None:
    one = of([[5.0]]).replace(extent=(32, 0, 64, 48))
    picture = np.asarray(overlay(one, background="color"))
    np.testing.assert_array_equal(picture[:, :32], one.image[:, :32])
    assert (picture[:, 32:] != one.image[:, 32:]).any(axis=2).all()


def test_a_few_extreme_pixels_do_not_bleach_the_rest_and_the_caption_says_so() -> None:
    values = np.ones((60, 60), np.float32)
    values[0, 0] = 1000.0
    shown = show(of(values, size=(60, 60)), smooth=0.0)
    assert shown.limits.high == pytest.approx(1.0)
    assert shown.limits.clipped == pytest.approx(1 / 3600)
    assert "saturates" in shown.note


def test_only_maps_of_input_pixels_are_smoothed_and_the_caption_says_so() -> None:
    noise = np.random.default_rng(0).normal(size=(200, 200))
    fine, coarse = show(of(noise, size=(200, 200))), show(of(noise[:7, :7], size=(200, 200)))
    assert coarse.sigma == 0
    assert coarse.note == ""
    assert fine.sigma == pytest.approx(0.012 * 200)
    assert "smoothed for display (sigma 2.4 px)" in fine.note
    assert np.std(fine.values) < 0.3


def test_smoothing_keeps_constants_also_at_the_edge_of_the_map() -> None:
    one = of(np.full((100, 100), 3.0), size=(100, 100)).replace(extent=(20, 20, 100, 100))
    shown = show(one, smooth=4.0)
    inside = shown.values[20:, 20:]
    np.testing.assert_allclose(inside, 3.0, rtol=1e-6)
    assert np.isnan(shown.values[:20]).all()


def test_smoothing_is_the_same_part_of_the_picture_at_every_size() -> None:
    one = of(np.random.default_rng(0).normal(size=(100, 100)), size=(200, 200))
    large, small = show(one, (400, 400)), show(one)
    assert large.sigma == small.sigma
    # A kernel of 4.8 pixels on a map whose cells are 4 pixels wide, against one half as large:
    # sampled differently, the same shape.
    difference = large.values[::2, ::2] - small.values
    assert np.abs(difference).max() < 0.1 * np.abs(small.values).max()


def test_showing_changes_nothing_in_the_explanation() -> None:
    one = sample_explanation()
    before = one.values.copy(), one.image.copy()
    overlay(one, (100, 50))
    np.testing.assert_array_equal(one.values, before[0])
    np.testing.assert_array_equal(one.image, before[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
@pytest.mark.parametrize("cells", [(1, 1), (7, 7), (90, 90)])
def test_pictures_of_any_shape_can_be_shown(size: tuple[int, int], cells: tuple[int, int]) -> None:
    one = sample_explanation(size=size, cells=cells, extent=(0.0, 0.0, *map(float, size)))
    assert overlay(one).size == size
    assert overlay(one, (33, 21)).size == (33, 21)


def test_a_map_wholly_outside_the_picture_shows_the_photograph() -> None:
    one = sample_explanation(size=(10, 10), extent=(100.0, 100.0, 110.0, 110.0))
    np.testing.assert_array_equal(np.asarray(overlay(one, background="color")), one.image)


def test_the_image_under_a_map_is_grey_unless_color_is_chosen() -> None:
    one = sample_explanation(size=(10, 10), extent=(100.0, 100.0, 110.0, 110.0))
    grey = np.asarray(overlay(one)).astype(int)
    assert (grey == grey[:, :, :1]).all()
    expected = one.image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[:, :, 0] - expected).max() <= 0.5 + 1e-9
    with pytest.raises(OptionError, match="background must be"):
        overlay(one, background="sepia")


def test_in_a_notebook_a_failed_check_stands_below_the_map() -> None:
    failed = {"verdict": "fails", "reason": "It stays."}
    html = sample_explanation(evidence={"sanity": failed})._repr_html_()
    assert "⚠ Sanity check: fails. It stays." in html
    assert "Sanity" not in sample_explanation()._repr_html_()


@pytest.mark.parametrize(
    ("values", "signed", "colormap", "limits"),
    [
        ([[0.0, 3.0]], True, "jet", (0.0, 3.0)),
        ([[-1.0, 3.0]], True, "viridis", (-1.0, 3.0)),
        ([[-3.0, -1.0]], True, "viridis", (-3.0, 0.0)),
        ([[0.0, 0.0]], True, "viridis", (0.0, 1.0)),
        ([[-1.0, 3.0]], True, "RdBu_r", (-3.0, 3.0)),
        ([[0.0, 3.0]], False, "cmc.vik", (-3.0, 3.0)),
    ],
)
def test_a_sequential_color_map_is_used_whole_and_a_diverging_one_from_its_middle(
    values: list[list[float]], signed: bool, colormap: str, limits: tuple[float, float]
) -> None:
    shown = show(of(values, signed), colormap=colormap)
    assert (shown.limits.low, shown.limits.high) == limits


def test_the_weakest_and_the_strongest_value_have_the_ends_of_a_sequential_color_map() -> None:
    table = color_table("viridis")
    drawn = colors(show(of([[0.0, 3.0]]), colormap="viridis"), True, table)
    np.testing.assert_array_equal(drawn[0, 0], table[0])
    np.testing.assert_array_equal(drawn[0, -1], table[255])


def test_without_matplotlib_the_two_own_color_maps_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cvx_core.explanations.colormaps.optional_module", lambda name: None)
    color_table.cache_clear()
    np.testing.assert_array_equal(color_table("inferno_r"), INFERNO[::-1])
    with pytest.raises(OptionError, match="pip install matplotlib"):
        color_table("some-color-map")
    color_table.cache_clear()
