"""Colour maps by name, and the core's own tables against their sources."""

from __future__ import annotations

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from cmcrameri import cm
from cvx_figure.palette import is_uneven

from cvx_core.explanations.colormaps import INFERNO, VIK, color_table as table


def test_the_cores_inferno_is_matplotlibs() -> None:
    theirs = np.round(matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255)
    np.testing.assert_array_equal(INFERNO, theirs)
    np.testing.assert_array_equal(table("inferno"), INFERNO)


def test_the_cores_vik_is_crameris() -> None:
    np.testing.assert_array_equal(VIK, np.round(cm.vik(np.arange(256))[:, :3] * 255))
    np.testing.assert_array_equal(table("vik"), VIK)


@pytest.mark.parametrize("name", ["batlow", "cmc.batlow"])
def test_crameris_maps_are_found_with_and_without_their_prefix(name: str) -> None:
    theirs = np.round(cm.batlow(np.arange(256))[:, :3] * 255)
    np.testing.assert_array_equal(table(name), theirs)


@pytest.mark.parametrize("name", ["vik", "jet", "berlin"])
def test_an_r_at_the_end_reverses_the_colours(name: str) -> None:
    # One step of 255: matplotlib computes a reversed map anew and rounds the other way.
    np.testing.assert_allclose(table(f"{name}_r").astype(int), table(name)[::-1], atol=1)


def test_only_maps_that_draw_false_edges_are_called_uneven() -> None:
    assert is_uneven("jet")
    assert is_uneven("jet_r")
    assert not is_uneven("inferno")
    assert not is_uneven("vik")


def without_green_cones(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Simulate missing green cones (Machado et al. 2009, severity 1) on sRGB colours."""
    linear = (np.asarray(colours) / 255) ** 2.2
    matrix = np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    )
    seen: npt.NDArray[np.float64] = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
    return seen


def test_the_two_sides_of_the_signed_colours_differ_without_green_cones() -> None:
    seen = without_green_cones(VIK)
    for strength in (64, 100, 127):
        against, for_ = seen[127 - strength], seen[128 + strength]
        assert np.abs(against - for_).max() > 0.25
