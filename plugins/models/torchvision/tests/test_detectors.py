"""What is kept of a detector's candidates is what torchvision reports."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cvx_embedded import photographs
from cvx_torchvision.builder import build, rename
from cvx_torchvision.detectors import preprocess_of, with_candidates
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum, detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms.functional import pil_to_tensor

import cvx_core as cvx
from cvx_core import DetectionCandidates, DetectionPrediction, ModelError, VisionModel

CLASSES = 5
SIZE: dict[str, Any] = {"min_size": 96, "max_size": 150}
PHOTOGRAPHS = [one.path for one in photographs()]


class Pyramid(nn.Module):
    """Two levels with strides of 8 and 16 pixels."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 32, 9, stride=8, padding=4), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        fine = self.fine(inputs)
        return OrderedDict([("0", fine), ("1", self.coarse(fine))])


def anchors(ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> AnchorGenerator:
    return AnchorGenerator(((16,), (48,)), (ratios,) * 2)


DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "fasterrcnn": lambda: detection.FasterRCNN(
        Pyramid(),
        CLASSES,
        rpn_anchor_generator=anchors(),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2),
        rpn_post_nms_top_n_test=60,
        **SIZE,
    ),
    "retinanet": lambda: detection.RetinaNet(
        Pyramid(), CLASSES, anchor_generator=anchors(), topk_candidates=70, **SIZE
    ),
    "fcos": lambda: detection.FCOS(
        Pyramid(), CLASSES, anchor_generator=anchors((1.0,)), topk_candidates=70, **SIZE
    ),
    "ssd": lambda: detection.ssd.SSD(
        Pyramid(),
        DefaultBoxGenerator([[2], [2, 3]]),
        (96, 96),
        CLASSES,
        head=detection.ssd.SSDHead([32, 32], [4, 6], CLASSES),
        topk_candidates=40,
    ),
}


def detector(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    made = DETECTORS[kind]().eval()
    scatter(made)
    # In float32 near-equal scores come in another order, and others are suppressed.
    return made.double()


def scatter(module: nn.Module) -> None:
    """Draw weights that give scores which differ and don't saturate, so that some are reported."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            *_, layer, _ = name.split(".")
            scores = layer in ("cls_logits", "cls_score") or "classification_head.m" in name
            sides = layer in ("bbox_reg", "bbox_pred") or "regression_head.m" in name
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
                parameter.mul_(0.3 if scores else 0.03 if sides else 1.0)
            elif scores:
                parameter.copy_(torch.randn_like(parameter) - 2)
            elif sides:
                parameter.copy_(torch.rand_like(parameter))


def wrapped(made: nn.Module) -> VisionModel:
    return VisionModel(with_candidates(made), preprocess=preprocess_of(made), task="detection")


def answered(model: VisionModel, photograph: Path) -> DetectionPrediction:
    [answer] = model.predict(photograph)
    assert isinstance(answer, DetectionPrediction)
    return answer


def reported(made: Any, model: VisionModel, photograph: Path) -> dict[str, Tensor]:
    """What a detector reports of a prepared photograph, in pixels of the photograph."""
    [prepared] = model.prepare(photograph)
    transform, size = made.transform, Image.open(photograph).size[::-1]
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(transform, "normalize", lambda image: image)
        patch.setattr(transform, "resize", lambda image, target: (image, target))
        [found] = made([prepared.tensor])
    boxes = resize_boxes(found["boxes"], list(prepared.tensor.shape[1:]), list(size))
    return {**found, "boxes": boxes}


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", DETECTORS)
def test_a_photograph_is_prepared_as_the_detector_does_it(kind: str, photograph: Path) -> None:
    made: Any = DETECTORS[kind]().eval()
    [prepared] = wrapped(made).prepare(photograph)
    pixels = pil_to_tensor(Image.open(photograph).convert("RGB")) / 255
    images, _ = made.transform([pixels])
    [(height, width)] = images.image_sizes
    assert torch.equal(prepared.tensor, images.tensors[0, :, :height, :width])
    assert prepared.extent == (0, 0, pixels.shape[2], pixels.shape[1])


def assert_same(answer: DetectionPrediction, expected: dict[str, Tensor]) -> None:
    keys = ("labels", "boxes", "scores")
    theirs = [
        (int(label), *box.tolist(), float(score))
        for label, box, score in zip(*(expected[key] for key in keys), strict=True)
    ]
    ours = [(one.entry.index, *one.box, one.entry.probability) for one in answer.kept]
    assert len(ours) == len(theirs)
    # In any order, as some tie; torchvision brings boxes to the photograph in float32.
    apart = np.abs(np.array(ours)[:, None] - np.array(theirs)[None]).max(2)
    assert apart.min(0).max() < 2e-3
    assert apart.min(1).max() < 2e-3


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", DETECTORS)
def test_what_is_kept_is_what_the_detector_reports(kind: str, seed: int, photograph: Path) -> None:
    made = detector(kind, seed)
    model = wrapped(made)
    expected = reported(made, model, photograph)
    assert len(expected["scores"]) > 3
    assert_same(answered(model, photograph), expected)


@pytest.mark.parametrize("kind", DETECTORS)
def test_images_of_a_batch_answer_as_alone(kind: str) -> None:
    made = detector(kind, 1)
    inputs = torch.rand(2, 3, 96, 130, generator=torch.Generator().manual_seed(0)).double()
    module = with_candidates(made)
    with torch.no_grad():
        both, alone = module(inputs), module(inputs[1:])
    assert isinstance(both, DetectionCandidates)
    frame = cvx.Frame((0, 0, 130, 96), (130, 96))
    one, two = (
        DetectionPrediction.of(both, 1, None, frame),
        DetectionPrediction.of(alone, 0, None, frame),
    )
    assert len(one.kept) == len(two.kept) > 0
    for a, b in zip(one.kept, two.kept, strict=True):
        assert a.entry.index == b.entry.index
        np.testing.assert_allclose(a.box, b.box, atol=1e-3)


@pytest.mark.parametrize("kind", DETECTORS)
def test_scores_and_boxes_depend_on_the_pixels_in_the_graph(kind: str) -> None:
    made = detector(kind, 0)
    inputs = torch.rand(1, 3, 96, 130).double().requires_grad_()
    found = with_candidates(made)(inputs)
    for part in (found.logits, found.boxes):
        [gradient] = torch.autograd.grad(part.sum(), inputs, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_a_score_of_fcos_is_the_root_of_the_product_of_two_probabilities() -> None:
    module = with_candidates(detector("fcos", 0))
    logits, centre = torch.tensor([[[1.5, -30.0], [90.0, 0.0]]]), torch.tensor([[[-0.5], [90.0]]])
    found = module._logits({"cls_logits": logits, "bbox_ctrness": centre})  # type: ignore[operator]
    assert torch.isfinite(found).all()
    expected = (logits.double().sigmoid() * centre.double().sigmoid()).sqrt()
    np.testing.assert_allclose(found.double().sigmoid(), expected, atol=2e-7, rtol=0)


@pytest.mark.parametrize("kind", DETECTORS)
def test_modules_and_weights_keep_their_names(kind: str) -> None:
    made = detector(kind, 0)
    module = with_candidates(made)
    assert module.state_dict().keys() == made.state_dict().keys()
    assert {n for n, _ in module.named_modules()} == {n for n, _ in made.named_modules()}
    assert not module.training


def test_what_is_no_detector_of_torchvision_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"Unsupported detector: Linear(.|\n)*readout="):
        with_candidates(nn.Linear(1, 1))


def _old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the oldest checkpoints."""
    found = {}
    for key, tensor in state.items():
        for new, old in (("_blocks.", ".0."), ("rpn.head.conv.", ".0.0.")):
            if new in key and old in key:
                key = key.replace(old, ".")
        if key.startswith("head.") and ".conv." in key:
            head, _, rest = key.partition(".conv.")
            number, _, kind = rest.partition(".0.")
            key = f"{head}.conv.{2 * int(number)}.{kind}"
        if "mask_fcn" not in key and "mask_head" in key:
            head, _, rest = key.partition("mask_head.")
            number, _, kind = rest.partition(".0.")
            key = f"{head}mask_head.mask_fcn{int(number) + 1}.{kind}"
        found[key] = tensor
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"]
)
def test_the_oldest_weights_give_the_network_that_torchvision_makes_of_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [weights] = models.get_model_weights(name)
    ours = build(name, "detection", weights, random=False).eval()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            scale = 0.02 if tensor.ndim > 1 else 0.1
            tensor.normal_(0, scale, generator=generator)
            if "running_var" in key:
                tensor.abs_()
    old = {k: v for k, v in _old_names(ours.state_dict()).items() if "num_batches" not in k}
    assert old.keys() != ours.state_dict().keys()
    assert rename(ours, old).keys() <= ours.state_dict().keys()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: dict(old))
    theirs = models.get_model(name, weights=weights).eval()
    inputs = torch.rand(1, 3, 64, 96, generator=generator)
    with torch.no_grad():
        for ours_at, theirs_at in zip(
            ours.backbone(inputs).values(),  # type: ignore[operator]
            theirs.backbone(inputs).values(),
            strict=True,
        ):
            # Frozen batch normalisation multiplies in another order.
            torch.testing.assert_close(ours_at, theirs_at, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_a_detector_loads_by_name_and_reports_what_torchvision_does(name: str) -> None:
    model = cvx.load_model(f"torchvision:{name}", weights="random")
    assert model.task.name == "detection"
    assert model.classes is not None
    assert model.classes[:2] == ("__background__", "person")
    torch.manual_seed(0)
    scatter(model.module.double())
    own = build(name, "detection", models.get_model_weights(name).DEFAULT, random=True).eval()
    own.double().load_state_dict(model.module.state_dict())
    expected = reported(own, model, PHOTOGRAPHS[0])
    assert len(expected["scores"]) > 0
    assert_same(answered(model, PHOTOGRAPHS[0]), expected)


@pytest.mark.parametrize("name", models.list_models(module=models.segmentation))
def test_a_segmenter_is_the_network_that_torchvision_builds_for_the_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [weights] = models.get_model_weights(name)
    with torch.device("meta"):
        state = build(name, "segmentation", weights, random=False).state_dict()
        monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
        models.get_model(name, weights=weights)  # loads strictly


def test_a_segmenter_loads_by_name_and_sees_the_whole_photograph() -> None:
    model = cvx.load_model("torchvision:lraspp_mobilenet_v3_large", weights="random")
    assert model.task.name == "segmentation"
    [prepared] = model.prepare(PHOTOGRAPHS[0])
    assert prepared.extent == (0, 0, *Image.open(PHOTOGRAPHS[0]).size)
    [answer] = model.predict(PHOTOGRAPHS[0])
    assert isinstance(answer, cvx.SegmentationPrediction)
    assert answer.logits.shape == (21, *prepared.tensor.shape[1:])
    with torch.no_grad():
        expected = model.module(prepared.tensor[None])["out"][0]
    np.testing.assert_array_equal(answer.logits, expected.double())


def test_all_tasks_are_listed() -> None:
    tasks = {entry.name: entry.task for entry in cvx.list_models("torchvision")}
    assert tasks["resnet50"] == "classification"
    assert tasks["fcn_resnet50"] == "segmentation"
    assert tasks["fcos_resnet50_fpn"] == "detection"


def test_an_image_without_proposals_has_no_candidates() -> None:
    detector = models.get_model(
        "fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, weights_backbone=None, num_classes=3
    ).eval()
    detector.rpn.min_size = 1e9  # so that no proposal is left
    model = cvx.wrap(detector)
    [prediction] = model.predict(torch.rand(1, 3, 64, 64))
    with pytest.raises(cvx.TargetError, match="no candidate boxes in this image"):
        cvx.explain(model, torch.rand(1, 3, 64, 64), "grad-cam", cvx.ClassScore(1))
    assert len(prediction.boxes_of(1)) == 0
    assert len(detector(torch.rand(1, 3, 64, 64))[0]["boxes"]) == 0
