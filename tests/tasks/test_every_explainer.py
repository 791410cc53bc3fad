"""Every explainer with each of its options on classifiers, segmenters and detectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvx_core import CvxError, Explanation, GroundTruthBoxes, GroundTruthMask, VisionModel, explain
from cvx_core.explainers.base import Explainer
from cvx_core.explainers.method import Attribution
from cvx_core.recording.requirements import Requirements
from cvx_core.tasks.targets import Predicted
from cvx_core.testing import models
from cvx_core.testing.kits.variants import check_all_explainers, check_explainer, variants

GIVEN = {"rise": {"masks": 8}, "occlusion": {"window": 8}}
CLASSES = ["cat", "dog", "car"]


def grid(*behind: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        *behind,
    ).eval()


class Detector(nn.Module):
    """A detector in the manner of DETR: one candidate in each cell of a grid of 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.body = grid(nn.AvgPool2d(2))
        self.classes, self.boxes = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.classes.weight.mul_(8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        boxes = self.boxes(features).sigmoid()
        outputs = {"logits": self.classes(features), "pred_boxes": boxes}
        return {key: value.flatten(2).transpose(1, 2) for key, value in outputs.items()}


def classifier() -> tuple[VisionModel, Any]:
    model = models.convolutional()
    return model, int(model.logits(models.inputs(1)).argmin())


def transformer() -> tuple[VisionModel, Any]:
    model = models.tokens()
    return model, int(model.logits(models.inputs(1)).argmin())


def segmenter() -> tuple[VisionModel, Any]:
    model = VisionModel(grid(nn.Conv2d(8, 3, 1)), classes=CLASSES, task="segmentation")
    least = model.output(models.inputs(1)).scores[0].argmin(0)
    return model, GroundTruthMask(least.numpy())


def detector() -> tuple[VisionModel, Any]:
    model = VisionModel(Detector(), classes=CLASSES, task="detection")
    return model, GroundTruthBoxes.of([(2, 3, 20, 22)], ["car"])


@pytest.mark.parametrize("build", [classifier, transformer, segmenter, detector])
@pytest.mark.filterwarnings("ignore")
def test_each_map_is_finite_and_not_flat_or_refused_with_a_way_out(build: Any) -> None:
    model, label = build()
    made, tried = check_all_explainers(model, models.inputs(1), label, GIVEN)
    assert tried > 150
    assert made > tried


def test_variants_are_all_combinations_of_switches_and_choices_and_other_numbers() -> None:
    found = variants("eigen-cam", {}, (16.0, 16.0))
    assert found == [{}, {"centred": False}, {"centred": True}, {"layer": "input"}]
    rise = variants("rise", {"masks": 8}, (16.0, 16.0))
    assert len(rise) == 1 + 2 * 2 * 3 + 2 + 2
    assert rise[-4:] == [
        {"masks": 8, key: v}
        for key, v in (("cells", 3), ("cells", 14), ("keep", 0.25), ("keep", 1.0))
    ]
    assert {"masks": 8, "score": "logit", "baseline": "blur", "centred": False} in rise
    assert {"query": (16.0, 16.0)} in variants("reads", {}, (16.0, 16.0))


class Constant(Explainer):
    """The same value everywhere."""

    value = 0.0

    def requirements(self) -> Requirements:
        return Requirements()

    def attribute(self, request: Any) -> list[Attribution]:
        one = Attribution(torch.full((1, 4, 4), self.value))
        return [one for _ in request.seeds(request.recording(Requirements()).logits)]


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Constant:
    found = Constant()
    monkeypatch.setattr("cvx_core.testing.kits.variants.get_explainer", lambda *_, **__: found)
    return found


def check() -> list[Explanation]:
    return check_explainer(
        models.convolutional(), models.inputs(1), "constant", {}, [Predicted()], None
    )


def test_a_flat_map_does_not_pass(constant: Constant) -> None:
    constant.value = 1.0
    with pytest.raises(AssertionError, match="constant"):
        check()
    [one] = explain(models.convolutional(), models.inputs(1), constant)
    assert "same value everywhere" in one.cautions[0]


def test_a_map_of_zeros_says_that_it_is_zero(constant: Constant) -> None:
    [one] = check()
    assert "zero everywhere" in one.evidence["warning"]
    assert "zero everywhere" in one.cautions[0]


def test_a_map_that_is_not_finite_is_refused(constant: Constant) -> None:
    constant.value = float("nan")
    with pytest.raises(CvxError, match="finite"):
        explain(models.convolutional(), models.inputs(1), constant)
