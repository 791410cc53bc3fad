"""Boxes are cut at the edges of the image where the detector's own library does so."""

from __future__ import annotations

import pytest
import torch

from cvx_core.images.regions import Frame
from cvx_core.tasks.detection.candidates import DetectionCandidates
from cvx_core.tasks.detection.prediction import DetectionPrediction


@pytest.mark.parametrize(
    ("clip", "expected"), [(True, (0.0, 0.0, 40.0, 12.0)), (False, (-4.0, -2.0, 52.0, 12.0))]
)
def test_reported_boxes_are_cut_if_asked(
    clip: bool, expected: tuple[float, float, float, float]
) -> None:
    candidates = DetectionCandidates(
        torch.tensor([[[3.0]]]), torch.tensor([[[-2.0, -1.0, 26.0, 6.0]]]), clip=clip
    )
    frame = Frame((0.0, 0.0, 40.0, 20.0), (20, 10), (40, 20))
    [found] = DetectionPrediction.of(candidates, 0, None, frame).kept
    assert found.box == expected
