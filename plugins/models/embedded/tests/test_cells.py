"""Boxes of cells, and the candidates that come of them, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from cvx_embedded.cells import Cells, Level, candidates

from cvx_core import DetectionPrediction, Frame

LEVELS = (Level(8, 2, 3), Level(16, 1, 2))
"""Cells 0 to 5 on the first, 6 and 7 on the second."""


def cells(distances: torch.Tensor, scores: torch.Tensor) -> Cells:
    """Sides at whole bins (8, 4) and scores (8, classes), for one image."""
    # Bins at -60 have a share of e^-60, which is nothing in float32.
    sides = torch.full((1, 8, 4, 11), -60.0)
    sides.scatter_(-1, distances[None, :, :, None], 0.0)
    return Cells(scores[None].logit(), sides, LEVELS)


def test_cells_are_numbered_row_by_row_and_level_by_level() -> None:
    found = cells(torch.zeros(8, 4, dtype=torch.long), torch.full((8, 1), 0.5))
    assert found.centres().tolist() == [
        *([4, 4], [12, 4], [20, 4]),
        *([4, 12], [12, 12], [20, 12]),
        *([8, 8], [24, 8]),
    ]
    assert found.strides().tolist() == [8] * 6 + [16] * 2


def test_a_side_lies_as_many_strides_from_the_centre_as_its_bin_says() -> None:
    distances = torch.tensor([[1, 2, 3, 4]] * 8)
    boxes = cells(distances, torch.full((8, 1), 0.5)).boxes()[0]
    assert boxes[0].tolist() == [4 - 8, 4 - 16, 4 + 24, 4 + 32]
    assert boxes[7].tolist() == [24 - 16, 8 - 32, 24 + 48, 8 + 64]


def test_a_side_spread_over_two_bins_lies_between_them() -> None:
    found = cells(torch.zeros(8, 4, dtype=torch.long), torch.full((8, 1), 0.5))
    # A quarter at 4 strides and three quarters at 8: 7 strides to the left.
    found.side_logits[0, 0, 0] = torch.tensor([0.0] * 11).scatter(
        0, torch.tensor([4, 8]), torch.tensor([60.0, 60.0 + torch.tensor(3.0).log()])
    )
    assert found.boxes()[0, 0, 0].item() == pytest.approx(4 - 7 * 8, abs=1e-4)


def test_a_candidate_has_its_cells_class_logits_and_box_with_their_graph() -> None:
    given = cells(torch.tensor([[5, 5, 5, 5]] * 8), torch.tensor([[0.9]] + [[0.1]] * 7))
    logits, sides = given.class_logits.requires_grad_(), given.side_logits.requires_grad_()
    found = candidates(Cells(logits, sides, LEVELS))
    assert found.levels == (6, 2)
    assert found.boxes[0, 0].tolist() == [4 - 40, 4 - 40, 4 + 40, 4 + 40]
    found.logits[0, 0, 0].sigmoid().backward()
    # The derivative of the sigmoid at a score of .9 is .9 * .1.
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(0.09)
    found.boxes[0, 0].sum().backward()
    assert sides.grad is not None
    assert sides.grad[0, 1:].abs().sum() == 0


def test_a_cell_answers_with_its_best_class_alone() -> None:
    scores = torch.full((8, 2), 0.1)
    scores[0] = torch.tensor([0.6, 0.7])
    found = candidates(cells(torch.tensor([[5, 5, 5, 5]] * 8), scores))
    answer = DetectionPrediction.of(found, 0, None, Frame((0, 0, 24, 16), (24, 16)))
    assert isinstance(answer, DetectionPrediction)
    assert [(one.candidate, one.entry.index) for one in answer.kept] == [(0, 1)]
