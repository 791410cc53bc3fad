"""Boxes, threshold and suppression, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from cvx_embedded.candidates import Candidates, Level, detections

LEVELS = (Level(8, 2, 3), Level(16, 1, 2))
"""Candidates 0 to 5 on the first, 6 and 7 on the second."""


def candidates(distances: torch.Tensor, scores: torch.Tensor) -> Candidates:
    """Sides at whole bins (8, 4) and scores (8, classes), for one image."""
    # Bins at -60 have a share of e^-60, which is nothing in float32.
    sides = torch.full((1, 8, 4, 11), -60.0)
    sides.scatter_(-1, distances[None, :, :, None], 0.0)
    return Candidates(scores[None].logit(), sides, LEVELS)


def test_candidates_are_numbered_row_by_row_and_level_by_level() -> None:
    found = candidates(torch.zeros(8, 4, dtype=torch.long), torch.full((8, 1), 0.5))
    assert found.centres().tolist() == [
        *([4, 4], [12, 4], [20, 4]),
        *([4, 12], [12, 12], [20, 12]),
        *([8, 8], [24, 8]),
    ]
    assert found.strides().tolist() == [8] * 6 + [16] * 2


def test_a_side_lies_as_many_strides_from_the_centre_as_its_bin_says() -> None:
    distances = torch.tensor([[1, 2, 3, 4]] * 8)
    boxes = candidates(distances, torch.full((8, 1), 0.5)).boxes()[0]
    assert boxes[0].tolist() == [4 - 8, 4 - 16, 4 + 24, 4 + 32]
    assert boxes[7].tolist() == [24 - 16, 8 - 32, 24 + 48, 8 + 64]


def test_a_side_spread_over_two_bins_lies_between_them() -> None:
    found = candidates(torch.zeros(8, 4, dtype=torch.long), torch.full((8, 1), 0.5))
    # A quarter at 4 strides and three quarters at 8: 7 strides to the left.
    found.side_logits[0, 0, 0] = torch.tensor([0.0] * 11).scatter(
        0, torch.tensor([4, 8]), torch.tensor([60.0, 60.0 + torch.tensor(3.0).log()])
    )
    assert found.boxes()[0, 0, 0].item() == pytest.approx(4 - 7 * 8, abs=1e-4)


def test_of_boxes_that_overlap_by_more_than_half_the_best_of_each_class_stays() -> None:
    # All boxes reach 40 pixels to each side, so that neighbours, 8 pixels apart, share 72 columns
    # of 88: an overlap of .82.
    distances = torch.tensor([[5, 5, 5, 5]] * 6 + [[0, 0, 0, 0]] * 2)
    scores = torch.full((8, 2), 0.1)
    scores[0, 0], scores[1, 0], scores[2, 1] = 0.7, 0.9, 0.6
    [found] = detections(candidates(distances, scores))
    assert found.candidates.tolist() == [1, 2], "0 is suppressed by 1; 2 is of another class"
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.boxes.tolist() == [[-28, -36, 52, 44], [-20, -36, 60, 44]]


def test_the_overlap_and_the_threshold_can_be_set() -> None:
    distances = torch.tensor([[5, 5, 5, 5]] * 6 + [[0, 0, 0, 0]] * 2)
    scores = torch.full((8, 1), 0.1)
    scores[0], scores[1] = 0.7, 0.9
    given = candidates(distances, scores)
    [found] = detections(given, overlap=0.9)
    assert found.candidates.tolist() == [1, 0]
    [found] = detections(given, overlap=0.9, threshold=0.8)
    assert found.candidates.tolist() == [1]
    [found] = detections(given, threshold=0.95)
    assert found.boxes.shape == (0, 4)


def test_images_are_suppressed_apart() -> None:
    distances = torch.tensor([[5, 5, 5, 5]] * 8)
    one = candidates(distances, torch.tensor([[0.9]] + [[0.1]] * 7))
    two = candidates(distances, torch.tensor([[0.1], [0.8]] + [[0.1]] * 6))
    both = Candidates(
        torch.cat([one.class_logits, two.class_logits]),
        torch.cat([one.side_logits, two.side_logits]),
        LEVELS,
    )
    assert [found.candidates.tolist() for found in detections(both)] == [[0], [1]]


def test_scores_and_boxes_of_detections_keep_the_graph() -> None:
    given = candidates(torch.tensor([[5, 5, 5, 5]] * 8), torch.tensor([[0.9]] + [[0.1]] * 7))
    logits, sides = given.class_logits.requires_grad_(), given.side_logits.requires_grad_()
    [found] = detections(Candidates(logits, sides, LEVELS))
    found.scores.sum().backward(retain_graph=True)
    # The derivative of the sigmoid at a score of .9 is .9 * .1.
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(0.09)
    found.boxes.sum().backward()
    assert sides.grad is not None
    assert sides.grad[0, 1:].abs().sum() == 0
