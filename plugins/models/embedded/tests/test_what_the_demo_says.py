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
SECOND_FISH = (170, 180, 220, 222)  # small, among the arms
PISTOL_GRIP = (170, 15, 280, 125)
STRAIGHT_UPPER = (60, 85, 115, 160)
STRAIGHT_LOWER = (115, 145, 175, 215)


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return cvx.load_model("embedded")


def total(heatmap: npt.NDArray[np.float32], box: tuple[int, int, int, int]) -> float:
    left, top, right, bottom = box
    return float(np.nansum(heatmap[top:bottom, left:right]))


def fish_rather_than_anemone(model: VisionModel, explainer: str) -> npt.NDArray[np.float32]:
    target = Contrast("anemone fish", "sea anemone")
    [found] = cvx.explain(model, photographs()[0].path, explainer, target)
    return found.heatmap()


def test_asked_for_the_fish_rather_than_the_anemone_only_the_fish_remains(
    model: VisionModel,
) -> None:
    heatmap = fish_rather_than_anemone(model, "activation-error")
    arms = total(heatmap, ARMS) - total(heatmap, SECOND_FISH)
    assert total(heatmap, FISH) > 10 * abs(arms)


def test_class_attention_turns_from_the_arms_to_the_fish(model: VisionModel) -> None:
    """The arms, which support the anemone, are blue, and nothing but the fish is red."""
    heatmap = fish_rather_than_anemone(model, "class-attention")
    assert total(heatmap, ARMS) < 0
    red = np.maximum(heatmap, 0)
    assert total(red, FISH) > 50 * (total(red, ARMS) - total(red, SECOND_FISH))


def test_the_pistol_grip_speaks_for_the_drill_and_the_upper_end_of_the_straight_one_weakly_against(
    model: VisionModel,
) -> None:
    photograph = photographs()[1]
    [found] = cvx.explain(model, photograph.path, "activation-error", label=photograph.label)
    heatmap = found.heatmap()
    grip, upper = total(heatmap, PISTOL_GRIP), total(heatmap, STRAIGHT_UPPER)
    assert upper < 0 < grip
    assert -upper < 0.2 * grip, "weakly"
    assert abs(total(heatmap, STRAIGHT_LOWER)) < 0.5 * -upper, "its lower end, still less"
