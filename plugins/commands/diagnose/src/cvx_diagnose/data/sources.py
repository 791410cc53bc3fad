"""Where inputs come from: what a data set holds, in an order that never changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError
from cvx_core.images import SourceImage, read_image
from cvx_core.plugins import error_boundary
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.items import Item, truth_of


@dataclass(frozen=True)
class Source(ABC):
    """A data set. It can be pickled: workers read from it.

    Attributes
    ----------
    name
        What it is called in messages and in the plan.
    task
        Of the model that is asked, which decides what a label is.
    classes
        The model's class names, or None.
    """

    name: str
    task: str
    classes: tuple[str, ...] | None

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Yield all items with ids 0, 1, 2, ..., the same whenever it is asked.

        Raises
        ------
        InputError, UsageError
            If the data set is not what it should be.
        """

    @abstractmethod
    def load(self, item: Item) -> tuple[SourceImage | torch.Tensor, GroundTruth | None]:
        """Return the photograph, or the network's input (C, H, W), with what is true of it.

        Raises
        ------
        InputError
            If it can't be read.
        """


@dataclass(frozen=True)
class Files(Source):
    """A data set of files below a root."""

    root: Path

    def load(self, item: Item) -> tuple[SourceImage, GroundTruth | None]:
        """Read the file, and what is true of it from the label."""
        picture = read_image(self.root / item.path, shown=item.shown)
        return picture, truth_of(item, self.root, self.task, self.classes)


@dataclass(frozen=True, eq=False)
class DataSet(Source):
    """A map-style data set of PyTorch: ``dataset[i]`` is a pair of image and target.

    The image is a PIL image, a uint8 array (H, W, 3), or a float tensor (C, H, W) as the network
    takes it. The target is a class by index or name; of segmenters an integer array (H, W); of
    detectors a mapping with ``boxes`` (n, 4) in pixels of the photograph and ``labels``, as in
    torchvision. A `GroundTruth` of cvx is taken as it is, and None is unknown.
    """

    data: Any

    def items(self) -> Iterator[Item]:
        """Yield an item for each index."""
        return (Item(i, f"#{i}", None) for i in range(len(self.data)))

    def load(self, item: Item) -> tuple[SourceImage | torch.Tensor, GroundTruth | None]:
        """Ask the data set; whatever it raises is an `InputError`."""
        # The boundary to the user's data set, which may raise anything.
        with error_boundary(
            lambda reason: InputError(f"The data set failed for {item.id}: {reason}"),
            passing=(InputError,),
        ):
            image, target = self.data[item.id]
            truth = _truth(target, self.task)
        if isinstance(image, torch.Tensor) and image.is_floating_point():
            if image.ndim != 3 or not bool(torch.isfinite(image).all()):
                raise InputError(
                    f"Image {item.id} is a tensor {tuple(image.shape)}, or not finite.",
                    "A prepared image is a finite float tensor (C, H, W).",
                )
            return image, truth
        if isinstance(image, torch.Tensor):
            image = image.permute(1, 2, 0).numpy()
        return read_image(image, item.id), truth


def _truth(target: Any, task: str) -> GroundTruth | None:
    if target is None or isinstance(target, str | GroundTruthBoxes | GroundTruthMask):
        return target
    if task == "classification":
        return int(target)
    if task == "segmentation":
        if isinstance(target, Image.Image):
            target = np.asarray(target)
        return GroundTruthMask(target.numpy() if isinstance(target, torch.Tensor) else target)
    boxes, labels = (np.asarray(target[key]).tolist() for key in ("boxes", "labels"))
    return GroundTruthBoxes.of(boxes, labels)


def known(names: Sequence[str]) -> str:
    """Return a few names for a message."""
    shown = ", ".join(repr(one) for one in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
