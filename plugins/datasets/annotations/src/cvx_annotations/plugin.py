"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_ground_truth_readers() -> Iterable[Component]:
    """Offer the reader."""
    yield Component(
        "annotations",
        "Ground truth from COCO, Pascal VOC and YOLO files, and from masks.",
        "cvx_annotations.reader:read_annotations",
    )
