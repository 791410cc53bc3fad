"""torchvision's detectors up to their candidates, before any suppression.

A detector of torchvision takes images of any size and returns only the boxes that it keeps. Here
its own modules run, under their own names, up to the scores and boxes of all candidates; its
thresholds become settings of the candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms.functional import pil_to_tensor

from cvx_core import DetectionCandidates, ModelError

_SMALLEST = 1e-2
"""Shortest side of a box that R-CNNs keep, in pixels of the input."""


@dataclass(frozen=True, eq=False)
class DetectorPreprocess:
    """A detector's own normalisation and resizing, without the padding.

    The aspect ratio is kept unless the detector takes one size; nothing is cropped.
    """

    transform: GeneralizedRCNNTransform

    def __call__(self, image: Any) -> Tensor:
        """Return float32 (3, H, W) of a PIL image."""
        pixels = pil_to_tensor(image.convert("RGB")).float() / 255
        resized: Tensor = self.transform.resize(self.transform.normalize(pixels))[0]
        return resized


def preprocess_of(detector: nn.Module) -> DetectorPreprocess:
    """Return the preprocess of a detector of torchvision."""
    transform: Any = deepcopy(detector.transform)
    return DetectorPreprocess(transform.eval())


def has_candidates(module: nn.Module) -> bool:
    """Return whether a network runs as a detector of torchvision does, whatever its parts are."""
    forward = type(module).forward
    return any(isinstance(module, kind) and forward is kind.forward for kind in _KINDS)


def with_candidates(detector: nn.Module) -> nn.Module:
    """Return a module that runs a detector's own modules and returns its `DetectionCandidates`.

    It shares the detector's modules and parameters, under the same names. It takes (B, 3, H, W)
    as prepared by `preprocess_of`, and pads it as the detector does; boxes are in pixels of that
    input.

    Parameters
    ----------
    detector
        A Faster, Mask or Keypoint R-CNN, a RetinaNet, FCOS, SSD or SSDlite of torchvision.

    Raises
    ------
    ModelError
        If it is another detector.
    """
    for kind, build in _KINDS.items():
        if isinstance(detector, kind):
            return build(detector)
    raise ModelError(
        f"Unsupported detector: {type(detector).__name__}.",
        "Pass readout=... to VisionModel: a function from its output to DetectionCandidates.",
    )


class _Detector(nn.Module, ABC):
    """A detector's modules, under their own names."""

    backbone: nn.Module
    transform: GeneralizedRCNNTransform

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        for name, child in detector.named_children():
            self.add_module(name, child)
        self.train(detector.training)

    def forward(self, inputs: Tensor) -> DetectionCandidates:
        """Return the candidates of a batch (B, 3, H, W)."""
        size = (inputs.shape[2], inputs.shape[3])
        down, across = (-side % self.transform.size_divisible for side in size)
        images = ImageList(F.pad(inputs, (0, across, 0, down)), [size] * len(inputs))
        features = self.backbone(images.tensors)
        return self.candidates(images, features if isinstance(features, dict) else {"0": features})

    @abstractmethod
    def candidates(self, images: ImageList, features: dict[str, Tensor]) -> DetectionCandidates:
        """Return the candidates in padded images, given the backbone's outputs by name."""


class _OneStage(_Detector):
    """RetinaNet (Lin 2017): independent classes for each anchor."""

    head: nn.Module
    anchor_generator: nn.Module

    def __init__(self, detector: RetinaNet | FCOS | SSD) -> None:
        super().__init__(detector)
        self.box_coder: Any = detector.box_coder
        self.settings: dict[str, Any] = {
            "threshold": detector.score_thresh,
            "overlap": detector.nms_thresh,
            "most": detector.detections_per_img,
            "topk": detector.topk_candidates,
        }

    def candidates(self, images: ImageList, features: dict[str, Tensor]) -> DetectionCandidates:
        """Return a candidate for each anchor, the finest level first."""
        grids = list(features.values())
        heads = self.head(grids)
        sizes = [grid.shape[2] * grid.shape[3] for grid in grids]
        boxes = [
            clip_boxes_to_image(self._decoded(sides, anchors), size)
            for sides, anchors, size in zip(
                heads["bbox_regression"],
                self.anchor_generator(images, grids),
                images.image_sizes,
                strict=True,
            )
        ]
        return DetectionCandidates(
            self._logits(heads),
            torch.stack(boxes),
            levels=self._levels(heads["cls_logits"].shape[1], sizes),
            **self.settings,
        )

    def _decoded(self, sides: Tensor, anchors: Tensor) -> Tensor:
        decoded: Tensor = self.box_coder.decode_single(sides, anchors)
        return decoded

    def _logits(self, heads: dict[str, Tensor]) -> Tensor:
        return heads["cls_logits"]

    def _levels(self, count: int, sizes: list[int]) -> tuple[int, ...]:
        """Return how many of the anchors each level has."""
        return tuple(size * (count // sum(sizes)) for size in sizes)


class _FCOS(_OneStage):
    """FCOS: a score is the root of a class's probability times that of lying in the centre."""

    def _decoded(self, sides: Tensor, anchors: Tensor) -> Tensor:
        decoded: Tensor = self.box_coder.decode(sides, anchors)
        return decoded

    def _logits(self, heads: dict[str, Tensor]) -> Tensor:
        # The logit whose sigmoid is that score, so that targets are about the reported score.
        log_score = (F.logsigmoid(heads["cls_logits"]) + F.logsigmoid(heads["bbox_ctrness"])) / 2
        log_score = log_score.clamp(max=-torch.finfo(log_score.dtype).eps)
        return log_score - torch.log(-torch.expm1(log_score))


class _SSD(_OneStage):
    """SSD (Liu 2016), SSDlite (Howard 2019): a softmax over classes and background."""

    def __init__(self, detector: SSD) -> None:
        super().__init__(detector)
        self.settings |= {"topk_in": "class", "exclusive": True, "background": 0}

    def _levels(self, count: int, sizes: list[int]) -> tuple[int, ...]:  # noqa: ARG002
        return ()


class _RCNN(_Detector):
    """R-CNNs (Ren 2015): classes, and a box for each, at the proposals of a first stage.

    The proposals are constant in the backward pass, as in torchvision.
    """

    rpn: nn.Module
    roi_heads: Any

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__(detector)
        heads: Any = detector.roi_heads
        self.settings: dict[str, Any] = {
            "threshold": heads.score_thresh,
            "overlap": heads.nms_thresh,
            "most": heads.detections_per_img,
            "exclusive": True,
            "background": 0,
        }

    def candidates(self, images: ImageList, features: dict[str, Tensor]) -> DetectionCandidates:
        """Return a candidate for each proposal; images with fewer are padded."""
        proposals, _ = self.rpn(images, features)
        heads = self.roi_heads
        pooled = heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
        logits, sides = heads.box_predictor(pooled)
        # (all proposals, C, 4), of one image after the other.
        boxes = heads.box_coder.decode(sides, proposals).reshape(*logits.shape, 4)
        counts = [len(several) for several in proposals]
        clipped = [
            clip_boxes_to_image(several, size)
            for several, size in zip(boxes.split(counts), images.image_sizes, strict=True)
        ]
        filled = nn.utils.rnn.pad_sequence
        all_boxes = filled(clipped, batch_first=True)
        span = all_boxes[..., 2:] - all_boxes[..., :2]
        return DetectionCandidates(
            filled(list(logits.split(counts)), batch_first=True),
            all_boxes,
            valid=(span >= _SMALLEST).all(-1),
            **self.settings,
        )


_KINDS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    FasterRCNN: _RCNN,
    RetinaNet: _OneStage,
    FCOS: _FCOS,
    SSD: _SSD,
}
