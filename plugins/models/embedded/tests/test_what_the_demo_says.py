"""What ``cvx demo`` tells people about its photographs is true of the maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from cvx_embedded import photographs

import cvx_core as cvx
from cvx_core import Contrast, VisionModel

# Rectangles of the photographs (left, top, right, bottom), in pixels, drawn by hand.
FISH = (80, 35, 250, 120)
ARMS = (80, 130, 250, 225)
PISTOL_GRIP = (170, 15, 280, 125)
STRAIGHT_HANDLE = (60, 85, 170, 215)


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return cvx.load_model("embedded")


def total(heatmap: npt.NDArray[np.float32], box: tuple[int, int, int, int]) -> float:
    left, top, right, bottom = box
    return float(np.nansum(heatmap[top:bottom, left:right]))


@pytest.mark.parametrize("explainer", ["class-attention", "activation-error"])
def test_the_fish_speaks_for_the_fish_rather_than_the_anemone(
    model: VisionModel, explainer: str
) -> None:
    photograph = photographs()[0].path
    [found] = cvx.explain(model, photograph, explainer, Contrast("anemone fish", "sea anemone"))
    heatmap = found.heatmap()
    assert total(heatmap, FISH) > 2 * abs(total(heatmap, ARMS))


def test_the_pistol_grip_speaks_for_the_drill_and_the_straight_handle_against(
    model: VisionModel,
) -> None:
    photograph = photographs()[1]
    [found] = cvx.explain(model, photograph.path, "activation-error", label=photograph.label)
    heatmap = found.heatmap()
    assert total(heatmap, PISTOL_GRIP) > 0 > total(heatmap, STRAIGHT_HANDLE)
