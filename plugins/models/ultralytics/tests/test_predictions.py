"""Boxes and classes are those that ``YOLO.predict`` reports."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cvx_core as cvx

pytestmark = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason="AGPL-3.0: whoever wants it installs it"
)

DETECTORS = [
    "yolov8n.yaml", "yolo11n.yaml", "yolo12n.yaml", "yolov5n.yaml", "yolov3-tiny.yaml",
    "yolov6n.yaml", "yolov10n.yaml", "yolo26n.yaml", "yolov8n-p2.yaml",
    "yolo26n-seg.yaml", "yolov8n-seg.yaml",
]  # fmt: skip


def reported(path: Path, image: Image.Image) -> Any:
    from ultralytics import YOLO

    [found] = YOLO(path).predict(image, verbose=False, save=False)
    return found


@pytest.mark.parametrize(("number", "configuration"), list(enumerate(DETECTORS)))
def test_boxes_are_those_of_predict(
    number: int, configuration: str, checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    shape = number % len(images)
    path, image = checkpoint(configuration, shape=shape), images[shape]
    model = cvx.load_model(f"ultralytics:{path}")
    theirs = reported(path, image).boxes
    # As predict does. Of random networks the coarsest grids amplify what rounding changes.
    model.module.fuse(verbose=False)
    [ours] = model.predict(image)
    assert len(theirs) > 3
    kept = list(ours.kept)
    if "-seg" in configuration:  # there a box with an empty mask is left out
        scores = theirs.conf.numpy()
        kept = [one for one in kept if np.abs(scores - one.entry.probability).min() < 1e-4]
    assert [one.entry.index for one in kept] == theirs.cls.int().tolist()
    assert np.allclose([one.entry.probability for one in kept], theirs.conf, atol=1e-4)
    assert np.allclose([one.box for one in kept], theirs.xyxy, rtol=0, atol=0.01)
    assert model.classes == tuple(f"thing {index}" for index in range(7))


def test_an_image_of_any_shape_is_laid_out_as_ultralytics_does(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    model = cvx.load_model(f"ultralytics:{checkpoint('yolov8n.yaml')}")
    [wide, high, _] = model.prepare(images)
    assert wide.tensor.shape[2] == 192
    assert high.tensor.shape[1:] == (192, 128)  # 114 wide, padded to a multiple of 32
    # 114 of 128 columns are the image, which has 101: 7 on each side are 6.2 pixels of it.
    assert high.extent == pytest.approx((-7 * 101 / 114, 0, 101 + 7 * 101 / 114, 170))


def test_boxes_of_rt_detr_are_those_of_predict(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    from ultralytics import RTDETR

    path = checkpoint("rtdetr-resnet50.yaml", 3)
    image = images[0]
    [theirs] = RTDETR(path).predict(image, verbose=False, save=False, conf=0.001)
    model = cvx.load_model(f"ultralytics:{path}")
    [found] = model.predict(image)
    best = np.sort(found.scores.ravel())[::-1][: len(theirs.boxes)]
    assert np.allclose(best, theirs.boxes.conf, atol=1e-4)
    for box, score, index in zip(*(one.numpy() for one in (
        theirs.boxes.xyxy, theirs.boxes.conf, theirs.boxes.cls)), strict=True):  # fmt: skip
        near = np.abs(found.boxes_of(int(index)) - box).max(1)
        assert near.min() < 0.01
        assert found.scores[near.argmin(), int(index)] == pytest.approx(score, abs=1e-4)


def test_classes_are_those_of_predict(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    path = checkpoint("yolov8n-cls.yaml")
    image = images[0]
    theirs = reported(path, image).probs
    model = cvx.load_model(f"ultralytics:{path}")
    [ours] = model.predict(image)
    assert ours.entry(theirs.top1).probability == pytest.approx(float(theirs.top1conf), abs=1e-4)
    assert ours.predicted == theirs.top1


def test_pixels_are_those_of_predict(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    path = checkpoint("yolo26n-sem.yaml")
    image = images[0].resize((192, 192))
    theirs = reported(path, image).semantic_mask.data.squeeze()
    model = cvx.load_model(f"ultralytics:{path}")
    scores = model.output(model.prepare(image)[0].tensor[None]).scores
    fine = torch.nn.functional.interpolate(scores, (192, 192), mode="bilinear")
    assert (fine.argmax(1)[0] == torch.as_tensor(theirs)).float().mean() > 0.999


def test_ones_own_network_is_wrapped_in_one_line(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    from ultralytics import YOLO

    path = checkpoint("yolov8n.yaml")
    [expected] = cvx.load_model(f"ultralytics:{path}").predict(images[0])
    for network in (YOLO(path), YOLO(path).model):
        [found] = cvx.wrap(network).predict(images[0])
        assert np.allclose(found.logits, expected.logits)
        assert np.allclose(found.boxes, expected.boxes)
