"""Sources: data sets whose items have a fixed order."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from cvx_annotations.yolo import NAMES
from PIL import Image

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, get_task
from cvx_core.images import SourceImage, read_image
from cvx_core.plugins import error_boundary
from cvx_core.tasks import GroundTruth
from cvx_diagnose.data.items import Item, check_faults, read_item_label
from cvx_diagnose.data.records import feature_names, label_text
from cvx_diagnose.data.storage import Storage, is_url


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

    storage: Storage

    def load(self, item: Item) -> tuple[SourceImage, GroundTruth | None]:
        """Read the image file, and its ground truth from the label."""
        check_faults(item)
        with self.storage.reading(item.path) as file:
            image = read_image(file, shown=item.display_path)
            self._fetch_label(item.label)
            here = replace(item, path=str(file))
            label = read_item_label(here, self.storage.root, self.task, self.classes, self.renamed)
        return image, label

    def _fetch_label(self, label: str | None) -> None:
        """Copy the file that holds a label, and those that name its classes, if there are any."""
        if not self.storage.url or label is None or get_task(self.task).exclusive:
            return
        if label.startswith(("[", "{")) or self.storage.find(label) is None:
            return
        self.storage.fetch(label)
        if label.endswith(".txt"):
            fetch_class_names(self.storage, label.rpartition("/")[0])


def fetch_class_names(storage: Storage, folder: str) -> None:
    """Copy the files that name YOLO's classes, in a folder or up to two above."""
    places = [folder, *(str(one) for one in PurePosixPath(folder).parents)][:3]
    for place in places:
        place = "" if place == "." else place
        for name in NAMES:
            wanted = f"{place}/{name}" if place else name
            if storage.is_file(wanted):
                storage.fetch(wanted)


@dataclass(frozen=True, eq=False)
class TorchDataset(Source):
    """A map-style data set of PyTorch: ``dataset[i]`` is a pair of image and target.

    The image is a PIL image, a uint8 array (H, W, 3), or a float tensor (C, H, W), already
    preprocessed. The target is a class by index or name; for segmenters an integer array (H, W);
    for detectors a mapping with ``boxes`` (n, 4) in pixels of the image and ``labels``, as in
    torchvision. A `GroundTruth` of cvx is used as it is; None means unknown.

    Or ``dataset[i]`` is a mapping, as in Hugging Face datasets, with an image and a label in
    columns of usual names; classes by number are named as the data set's ``features`` say.
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
            sample = self.data[item.id]
            if isinstance(sample, Mapping):
                image, ground_truth = self._columns(sample)
            else:
                image, target = sample
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

    def _columns(self, sample: Mapping[str, Any]) -> tuple[Any, GroundTruth | None]:
        """Return image and ground truth of a sample with columns."""
        columns = {str(name).casefold(): name for name in sample}
        image = next(
            (columns[one] for one in ("image", "img", "pixel_values") if one in columns), None
        )
        if image is None:
            raise InputError(
                f"Item has no column 'image', only {shorten_names(list(map(str, sample)))}.",
                "Rename it: dataset.rename_column(NAME, 'image').",
            )
        usual = (
            "objects",
            "annotations",
            "label",
            "labels",
            "class",
            "target",
            "mask",
            "annotation",
        )
        label = next((columns[one] for one in usual if one in columns), None)
        target = None if label is None else sample[label]
        names = feature_names(dict(getattr(self.data, "features", None) or {}).get(label))
        if isinstance(target, int) and names is not None and get_task(self.task).exclusive:
            return sample[image], names[target] if 0 <= target < len(names) else None
        if isinstance(target, Mapping | list) and not isinstance(target, str):
            said = label_text(target, self.task, names)
            here = Item(0, "", said)
            return sample[image], read_item_label(here, Path(), self.task, self.classes)
        return sample[image], _parse_target(target, self.task)


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


def find_file(storage: Storage, name: str) -> str:
    """Return a file's relative path as it is stored, or `name` if there is none.

    Tried are the name as it is, with slashes for backslashes, and in the two forms in which
    Unicode writes accents.
    """
    plain = name.isascii() and "\\" not in name
    if is_url(name) or (plain and storage.url):
        return name
    slashed = name.replace("\\", "/")
    tried = [name, slashed]
    if not name.isascii():
        # A name of bytes that are no text has no such form, but may be there.
        tried += [unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")]
    return next((one for one in dict.fromkeys(tried) if storage.is_file(one)), name)


def shorten_names(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are, for a message."""
    shown = ", ".join(repr(one) for one in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
