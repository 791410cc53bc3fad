"""Curves of questions about a part of the image, to segmenters and detectors."""

from __future__ import annotations

import pytest
import torch
from cvx_score import deletion
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import Box, BoxScore, DetectionCandidates, MethodError, RegionScore, VisionModel


class PerPixel(nn.Module):
    """A segmenter of two classes, whose second logit is the pixel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), x * self.one], dim=1)


class TwoBoxes(nn.Module):
    """A detector with a candidate on the left and one on the right, the logits their means.

    Which comes first depends on which is brighter, as with proposals of two stages.
    """

    def __init__(self, *, swaps: bool) -> None:
        super().__init__()
        self.one, self.swaps = nn.Parameter(torch.ones(1)), swaps

    def forward(self, x: Tensor) -> DetectionCandidates:
        halves = torch.stack([x[..., :4].mean(dim=(1, 2, 3)), x[..., 4:].mean(dim=(1, 2, 3))], 1)
        boxes = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4]]).expand(len(x), 2, 4)
        if self.swaps:
            order = halves.argsort(1, descending=True)
            halves = halves.gather(1, order)
            boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        return DetectionCandidates(halves[..., None] * self.one, boxes, threshold=0.1)


def test_a_region_is_measured_by_the_mean_probability_of_its_class() -> None:
    model = VisionModel(PerPixel(), task="segmentation", classes=["off", "on"])
    image = torch.arange(16.0).view(1, 1, 4, 4) / 8
    target = RegionScore(Box(0, 2, 4, 4), "on")
    found = deletion(model, image, image[0], target, steps=2)
    assert found.quantity == "probability"
    inside = torch.sigmoid(image[0, 0, 2:])
    # The lower half is removed first, and its logits are zero then.
    assert found.values[0] == pytest.approx([float(inside.mean()), 0.5, 0.5], abs=1e-6)
    logits = deletion(model, image, image[0], target, steps=2, quantity="logit")
    assert logits.values[0].tolist() == [float(image[0, 0, 2:].sum()), 0, 0]


@pytest.mark.parametrize("swaps", [False, True])
def test_a_box_is_found_again_whatever_candidate_it_is(swaps: bool) -> None:
    model = VisionModel(TwoBoxes(swaps=swaps), task="detection", classes=["thing"])
    image = torch.ones(1, 1, 4, 8)
    image[..., :4] = 2
    found = deletion(model, image, image[0], BoxScore(0), steps=2)
    # The left half goes first; the other box doesn't overlap with it, so it can't stand in.
    expected = torch.sigmoid(torch.tensor([2.0, 0.0, 0.0]))
    assert found.values[0] == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_side_of_a_box_has_no_probability() -> None:
    model = VisionModel(TwoBoxes(swaps=False), task="detection", classes=["thing"])
    image = torch.rand(1, 1, 4, 8)
    target = BoxScore(0, side="left")
    assert deletion(model, image, image[0], target, steps=1).quantity == "logit"
    with pytest.raises(MethodError, match="not one class"):
        deletion(model, image, image[0], target, steps=1, quantity="probability")


def test_the_explanation_of_a_region_is_scored_by_its_question() -> None:
    model = VisionModel(PerPixel(), task="segmentation", classes=["off", "on"])
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    target = RegionScore(Box(0, 2, 4, 4), "on")
    made = cvx.explain(model, image, "input-x-gradient", target)
    [again] = cvx.score(model, image, made, measures=["deletion"], steps=4)
    [result] = cvx.score(model, image, "input-x-gradient", target, measures=["deletion"], steps=4)
    assert again.values == result.values
