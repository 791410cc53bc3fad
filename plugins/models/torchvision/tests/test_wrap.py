"""A detector of the user's own, built with torchvision's classes, is read as torchvision does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_embedded import photographs
from cvx_torchvision.detectors import preprocess_of, with_candidates
from torch import Tensor, nn
from torchvision.models import detection, resnet18

import cvx_core as cvx
from cvx_core import ModelError, VisionModel

PHOTO = photographs()[0].path
OPTIONS = {"weights": None, "weights_backbone": None, "num_classes": 4}
SIZE = {"min_size": 96, "max_size": 128, **OPTIONS}
OWN: dict[str, Callable[[], nn.Module]] = {
    "FasterRCNN": lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(**SIZE),
    "MaskRCNN": lambda: detection.maskrcnn_resnet50_fpn(**SIZE),
    "RetinaNet": lambda: detection.retinanet_resnet50_fpn(**SIZE),
    "FCOS": lambda: detection.fcos_resnet50_fpn(**SIZE),
    "SSD": lambda: detection.ssdlite320_mobilenet_v3_large(**OPTIONS),
}


@pytest.mark.parametrize("kind", OWN)
def test_ones_own_detector_is_wrapped_in_one_line(kind: str) -> None:
    detector = OWN[kind]().eval()
    model = cvx.wrap(detector)
    assert (model.task.name, model.name) == ("detection", kind)
    # test_detectors.py holds these two against what torchvision reports.
    expected = VisionModel(
        with_candidates(detector), preprocess=preprocess_of(detector), task="detection"
    )
    [ours], [theirs] = model.predict(PHOTO), expected.predict(PHOTO)
    assert np.array_equal(ours.logits, theirs.logits)
    assert np.array_equal(ours.boxes, theirs.boxes)


def test_a_file_may_return_a_detector(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "from torchvision.models.detection import ssdlite320_mobilenet_v3_large\n"
        "def make():\n"
        "    return ssdlite320_mobilenet_v3_large(\n"
        "        weights=None, weights_backbone=None, num_classes=3)\n"
    )
    model = cvx.load_model(f"{code}:make")
    assert model.task.name == "detection"
    assert model.name == f"{code}:make"
    assert model.output(model.prepare(PHOTO)[0].tensor[None]).classes == 3


def test_a_detector_with_a_forward_of_its_own_is_not_guessed() -> None:
    class Mine(detection.FasterRCNN):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"logits": images.mean((2, 3))}

    whole = OWN["FasterRCNN"]()
    whole.__class__ = Mine
    assert cvx.wrap(whole).task.name == "classification"


def test_a_classifier_is_a_classifier() -> None:
    net = resnet18(num_classes=3)
    assert cvx.wrap(net).module is net


@pytest.mark.parametrize("task", ["detection", "classification", "segmentation"])
def test_the_message_about_boxes_names_the_line_that_works(task: str) -> None:
    model = VisionModel(OWN["SSD"](), task=task)
    with pytest.raises(ModelError) as caught:
        model.output(torch.rand(1, 3, 64, 64))
    assert "cvx_core.wrap(module)" in caught.value.hint


def test_a_segmenter_is_wrapped_as_one_with_published_preprocessing() -> None:
    from torchvision.models import segmentation

    weights = segmentation.LRASPP_MobileNet_V3_Large_Weights.DEFAULT
    net = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    found = cvx.wrap(net, weights=weights)
    assert found.task.name == "segmentation"
    assert found.classes == tuple(weights.meta["categories"])
    assert str(found.preprocess) == str(weights.transforms())
    assert found.predict(torch.zeros(1, 3, 64, 64))[0].task == "segmentation"
