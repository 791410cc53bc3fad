"""Sources: data sets whose items have a fixed order."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, get_task
from cvx_core.images import SourceImage, read_image
from cvx_core.plugins import error_boundary
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.items import Item, check_faults, read_item_label


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
    renamed
        From class names of the data to names or indices of the model; an empty text: left out.
    """

    name: str
    task: str
    classes: tuple[str, ...] | None
    renamed: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def faults(self) -> Sequence[str]:
        """What is wrong with the data set beside its items."""
        return ()

    @property
    def labels_searched(self) -> str:
        """Where labels are searched, and how to name them; empty where that can't be said."""
        return ""

    def columns(self) -> Mapping[int, Mapping[str, Any]]:
        """Return what else the data say of each item, by its id: values by name."""
        return {}

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
        check_faults(item)
        image = read_image(self.root / item.path, shown=item.display_path)
        label = read_item_label(item, self.root, self.task, self.classes, self.renamed)
        return image, label


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


def find_file(root: Path, name: str) -> str:
    """Return a file's relative path as it is on disk, or `name` if there is none.

    Tried are the name as it is, with slashes for backslashes, and in the two forms in which
    Unicode writes accents.
    """
    slashed = name.replace("\\", "/")
    tried = [name, slashed]
    if not name.isascii():
        # A name of bytes that are no text has no such form, but may be there.
        tried += [unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")]
    return next((one for one in dict.fromkeys(tried) if (root / one).is_file()), name)


def first_file(root: Path, names: Iterable[str]) -> str | None:
    """Return the first of some files that is there, as on disk."""
    found = (find_file(root, name) for name in names)
    return next((one for one in found if (root / one).is_file()), None)


def shorten_names(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are, for a message."""
    shown = ", ".join(repr(one) for one in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
