"""Ground truth of an image: a class for each pixel, or boxes with classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvx_core.errors import TargetError, UsageError
from cvx_core.images.regions import Frame
from cvx_core.plugins.discovery import registry

T = TypeVar("T")

UNKNOWN = 255
"""Index of pixels that are ignored, as in Pascal VOC and Cityscapes."""


@dataclass(frozen=True, eq=False)
class GroundTruthMask:
    """The true class of each pixel of an image.

    Parameters
    ----------
    indices
        (H, W) integers: a class's index among the model's outputs. 255 and negative numbers mean
        unknown. Another size than the image's is stretched over it.
    size
        (width, height) that the array is stretched over; None takes the image's.
    """

    indices: npt.NDArray[np.int64]
    size: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        indices = np.asarray(self.indices)
        if indices.ndim != 2 or indices.dtype.kind not in "iub":
            raise TargetError(
                f"True classes are integers (H, W), and these are {indices.dtype} {indices.shape}.",
                "Give the index of the class of each pixel; 255 is unknown.",
            )
        object.__setattr__(self, "indices", indices.astype(np.int64))

    def on_grid(self, frame: Frame, shape: tuple[int, int], classes: int) -> npt.NDArray[np.int64]:
        """Return the class at the centres of a grid over the network's input, (h, w); -1 unknown.

        Raises
        ------
        TargetError
            If there is a class that the model hasn't.
        """
        height, width = self.indices.shape
        across, down = self.size or frame.image_size or (width, height)
        x, y = frame.centres(shape)
        columns = np.floor(x / across * width).astype(int)
        rows = np.floor(y / down * height).astype(int)
        valid = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        found = self.indices[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
        known = valid & (found >= 0) & (found != UNKNOWN)
        if known.any() and int(found[known].max()) >= classes:
            raise TargetError(
                f"The ground truth has class {found[known].max()}, and the model has {classes}.",
                f"Indices go from 0 to {classes - 1}; {UNKNOWN} is unknown.",
            )
        return np.where(known, found, -1)


@dataclass(frozen=True)
class GroundTruthBox:
    """One object of an image.

    Attributes
    ----------
    box
        (left, top, right, bottom) in pixels of the image.
    reference
        Its class, by name or index.
    crowd
        Whether it marks many at once, as COCO's ``iscrowd``: it is neither found nor missed.
    """

    box: tuple[float, float, float, float]
    reference: str | int
    crowd: bool = False


@dataclass(frozen=True)
class GroundTruthBoxes:
    """All objects of an image."""

    boxes: tuple[GroundTruthBox, ...]

    @classmethod
    def of(
        cls, boxes: Sequence[Sequence[float]], references: Sequence[str | int]
    ) -> GroundTruthBoxes:
        """Make it of boxes (n, 4) in pixels of the image and their classes."""
        return cls(
            tuple(
                GroundTruthBox((float(b[0]), float(b[1]), float(b[2]), float(b[3])), reference)
                for b, reference in zip(boxes, references, strict=True)
            )
        )


def read_annotations(
    path: str | Path, form: type[T], image: str | Path, classes: Sequence[str] | None
) -> T:
    """Return the ground truth of an image from a file, by the installed reader.

    Parameters
    ----------
    path
        The file.
    form
        What to read: `GroundTruthMask` or `GroundTruthBoxes`.
    image
        The image, by path or name.
    classes
        The model's class names.

    Raises
    ------
    InputError
        If the file can't be read or isn't what it should be, with line or annotation.
    UsageError
        If no reader is installed.
    """
    offers = registry().offers("ground truth reader")
    if not offers:
        raise UsageError(
            "No reader of ground truth is installed.", "Install one: pip install cvx-annotations"
        )
    found: T = offers[0].component.load()(path, form, image, classes)
    return found


GroundTruth = Any
"""Ground truth of an image in the form that its task needs.

A class by name or index, `GroundTruthMask`, `GroundTruthBoxes`, or what a plugin's task takes.
"""
