"""Scores and boxes of a detector are explained on the levels that each is computed from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.recording import find_levels
from cvx_core.tasks.detection.candidates import DetectionCandidates

CLASSES, BINS = 3, 5


class TwoBranches(nn.Module):
    """A branch for classes, and one for distances, which a fixed convolution may decode."""

    def __init__(self, *, decodes: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.scores = nn.Sequential(nn.Conv2d(8, 6, 3, 1, 1), nn.SiLU(), nn.Conv2d(6, CLASSES, 1))
        self.sides = nn.Sequential(nn.Conv2d(8, 6, 3, 1, 1), nn.SiLU(), nn.Conv2d(6, 4 * BINS, 1))
        self.mean = nn.Conv2d(BINS, 1, 1, bias=False)
        self.decodes = decodes

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        x = F.relu(self.stem(x))
        bins = self.sides(x).flatten(2).unflatten(1, (4, BINS)).transpose(1, 2)
        found = {"scores": self.scores(x).flatten(2).transpose(1, 2), "bins": bins}
        if self.decodes:
            found["boxes"] = self.mean(bins.softmax(1))[:, 0].transpose(1, 2)
        return found


def readout(found: Mapping[str, Tensor]) -> DetectionCandidates:
    boxes = found.get("boxes")
    if boxes is None:
        steps = torch.arange(BINS).to(found["bins"])[:, None, None]
        boxes = (found["bins"].softmax(1) * steps).sum(1).transpose(1, 2)
    return DetectionCandidates(found["scores"], boxes, threshold=0.0, overlap=None)


def detector(*, decodes: bool) -> cvx.VisionModel:
    torch.manual_seed(0)
    net = TwoBranches(decodes=decodes).double()
    return cvx.VisionModel(net, task="detection", readout=readout)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def test_levels_are_those_of_the_part_that_is_asked_about(x: Tensor) -> None:
    model = detector(decodes=False)
    names = {
        part: [layer.name for layer in find_levels(model, x, frozenset([part]))] for part in (0, 1)
    }
    assert names == {0: ["scores.1"], 1: ["sides.1"]}
    assert {layer.name for layer in find_levels(model, x)} == {"scores.1", "sides.1"}


def test_a_class_is_explained_though_the_boxes_end_in_a_softmax(x: Tensor) -> None:
    model = detector(decodes=True)
    [made] = cvx.explain(model, x[:1], "activation-error:rule=frozen", cvx.ClassScore(1))
    candidate = int(model.output(x[:1]).scores[0, :, 1].argmax())
    assert made.provenance["layer"] == "scores.1"
    # The last convolution looks at one position: the candidate's, weight times activation.
    net = model.module
    with torch.no_grad():
        before = net.scores[1](net.scores[0](F.relu(net.stem(x[:1]))))
        expected = (before[0] * net.scores[2].weight[1]).sum(0)
    row, column = divmod(candidate, 4)
    assert made.values[row, column] == pytest.approx(float(expected[row, column]), rel=1e-5)
    assert np.count_nonzero(made.values) == 1


@pytest.mark.parametrize("method", ["class-attention", "activation-error:rule=frozen"])
def test_what_is_asked_together_is_explained_as_alone(method: str, x: Tensor) -> None:
    model = detector(decodes=False)
    side, score = cvx.BoxScore(0, side="left"), cvx.ClassScore(2)
    both = cvx.explain(model, x, method, [[side, score], [score]])
    assert [one.target.kind for one in both] == ["side", "class", "class"]
    alone = [
        cvx.explain(model, x[:1], method, side)[0],
        cvx.explain(model, x[:1], method, score)[0],
        cvx.explain(model, x[1:], method, score)[0],
    ]
    for one, other in zip(both, alone, strict=True):
        assert np.array_equal(one.values, other.values)
        assert one.provenance["layer"] == other.provenance["layer"]


def test_a_side_is_conserved_with_the_tangent_of_its_readout(x: Tensor) -> None:
    model = detector(decodes=False)
    [made] = cvx.explain(model, x[:1], "activation-error:rule=frozen", cvx.BoxScore(0, side="left"))
    [row] = made.evidence.get("levels", [made.evidence])
    assert row["residual"] < 1e-12
    # The position of the candidate, gradient times activation, as plain autograd finds it.
    [prediction] = model.predict(x[:1])
    candidate = prediction.kept[0].candidate
    net = model.module
    middle = net.sides[1](net.sides[0](F.relu(net.stem(x[:1])))).detach().requires_grad_()
    bins = net.sides[2](middle).flatten(2).unflatten(1, (4, BINS)).transpose(1, 2)
    side = (bins[0, :, 0, candidate].softmax(0) * torch.arange(BINS)).sum()
    [gradient] = torch.autograd.grad(side, middle)
    expected = (gradient * middle)[0].sum(0).detach().numpy()
    assert np.allclose(made.values, expected, atol=1e-6)
    assert np.ptp(expected) > 1e-3
