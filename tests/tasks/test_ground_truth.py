"""The true class at each output pixel."""

from __future__ import annotations

import numpy as np
import pytest

from cvx_core import Frame, GroundTruthBox, GroundTruthBoxes, GroundTruthMask, TargetError

INDICES = np.array([[0, 1], [2, 255]])


def test_the_classes_lie_over_the_photograph_and_255_is_unknown() -> None:
    frame = Frame((0, 0, 10, 20), (5, 5), (10, 20))
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, -1, -1], [2, 2, -1, -1]]
    assert GroundTruthMask(INDICES).on_grid(frame, (4, 4), 3).tolist() == expected


def test_only_what_the_network_sees_counts_and_padding_is_unknown() -> None:
    right = Frame((1, 0, 2, 2), (5, 5), (2, 2))
    assert GroundTruthMask(INDICES).on_grid(right, (2, 1), 3).tolist() == [[1], [-1]]
    padded = Frame((0, 0, 2, 4), (5, 5), (2, 2))
    found = GroundTruthMask(INDICES).on_grid(padded, (4, 2), 3)
    assert found.tolist() == [[0, 1], [2, -1], [-1, -1], [-1, -1]]


def test_a_class_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(TargetError, match=r"has class 2, and the model has 2(.|\n)*0 to 1; 255"):
        GroundTruthMask(INDICES).on_grid(Frame((0, 0, 2, 2), (2, 2)), (2, 2), 2)


@pytest.mark.parametrize("bad", [np.zeros(3, int), np.zeros((2, 2)), np.zeros((2, 2, 3), int)])
def test_what_is_no_class_for_each_pixel_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(TargetError, match=r"integers \(H, W\)"):
        GroundTruthMask(bad)


def test_boxes_are_made_of_arrays() -> None:
    truth = GroundTruthBoxes.of(np.array([[0, 1, 2, 3.5]]), ["dog"])
    assert truth.boxes == (GroundTruthBox((0, 1, 2, 3.5), "dog"),)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        GroundTruthBoxes.of([[0, 1, 2, 3]], [])
