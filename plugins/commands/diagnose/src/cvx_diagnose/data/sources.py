"""Sources: data sets whose items have a fixed order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, get_task
from cvx_core.images import SourceImage, read_image
from cvx_core.plugins import error_boundary
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.items import Item, read_item_label


@dataclass(frozen=True)
class Source(ABC):
    """A data set. It can be pickled: worker processes read from it.

    Attributes
    ----------
    name
        Its name in messages and in the plan.
    task
        The task of the model, which decides what a label is.
    classes
        The model's class names, or None.
    """

    name: str
    task: str
    classes: tuple[str, ...] | None

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Yield all items with ids 0, 1, 2, ..., in the same order on every call.

        Raises
        ------
        InputError, UsageError
            If the data set is invalid.
        """

    @abstractmethod
    def load(self, item: Item) -> tuple[SourceImage | torch.Tensor, GroundTruth | None]:
        """Return the image, or the network's input (C, H, W), with its ground truth.

        Raises
        ------
        InputError
            If it can't be read.
        """


@dataclass(frozen=True)
class FileSource(Source):
    """A data set of files below a root."""

    root: Path

    def load(self, item: Item) -> tuple[SourceImage, GroundTruth | None]:
        """Read the image file, and its ground truth from the label."""
        image = read_image(self.root / item.path, shown=item.display_path)
        return image, read_item_label(item, self.root, self.task, self.classes)


@dataclass(frozen=True, eq=False)
class TorchDataset(Source):
    """A map-style data set of PyTorch: ``dataset[i]`` is a pair of image and target.

    The image is a PIL image, a uint8 array (H, W, 3), or a float tensor (C, H, W), already
    preprocessed. The target is a class by index or name; for segmenters an integer array (H, W);
    for detectors a mapping with ``boxes`` (n, 4) in pixels of the image and ``labels``, as in
    torchvision. A `GroundTruth` of cvx is used as it is; None means unknown.
    """

    data: Any

    def items(self) -> Iterator[Item]:
        """Yield an item for each index."""
        return (Item(i, f"#{i}", None) for i in range(len(self.data)))

    def load(self, item: Item) -> tuple[SourceImage | torch.Tensor, GroundTruth | None]:
        """Read an item; whatever the data set raises becomes an `InputError`."""
        # The boundary to the user's data set, which may raise anything.
        with error_boundary(
            lambda reason: InputError(f"The data set failed for {item.id}: {reason}"),
            passing=(InputError,),
        ):
            image, target = self.data[item.id]
            ground_truth = _parse_target(target, self.task)
        if isinstance(image, torch.Tensor) and image.is_floating_point():
            if image.ndim != 3 or not bool(torch.isfinite(image).all()):
                raise InputError(
                    f"Image {item.id} must be a finite tensor (C, H, W), got {tuple(image.shape)}"
                    f"{'' if image.ndim != 3 else ' with values that are not finite'}.",
                )
            return image, ground_truth
        if isinstance(image, torch.Tensor):
            image = image.permute(1, 2, 0).numpy()
        return read_image(image, item.id), ground_truth


def _parse_target(target: Any, task: str) -> GroundTruth | None:
    if target is None or isinstance(target, str | GroundTruthBoxes | GroundTruthMask):
        return target
    form = get_task(task)
    if form.exclusive:
        return int(target)
    if form.ground_truth is GroundTruthMask:
        if isinstance(target, Image.Image):
            target = np.asarray(target)
        return GroundTruthMask(target.numpy() if isinstance(target, torch.Tensor) else target)
    if form.ground_truth is not GroundTruthBoxes:
        return target
    boxes, labels = (np.asarray(target[key]).tolist() for key in ("boxes", "labels"))
    return GroundTruthBoxes.of(boxes, labels)


def shorten_names(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are, for a message."""
    shown = ", ".join(repr(one) for one in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
