"""Sources from folders: one folder for each class, or images beside masks or boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvx_core import (
    GroundTruthBoxes,
    GroundTruthMask,
    InputError,
    TargetError,
    UsageError,
    get_task,
)
from cvx_core.tasks import find_class
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.sources import FileSource, shorten_names

SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .avif .jp2 .j2k".split()  # noqa: SIM905
)
"""Files with other suffixes are ignored."""

IMAGE_FOLDERS = ("images", "JPEGImages", "img", "imgs")
LABEL_FOLDERS: dict[type, tuple[tuple[str, str], ...]] = {
    GroundTruthBoxes: (("labels", ".txt"), ("Annotations", ".xml"), ("annotations", ".xml")),
    GroundTruthMask: (
        ("masks", ".png"),
        ("SegmentationClass", ".png"),
        ("annotations", ".png"),
        ("labels", ".png"),
    ),
    np.ndarray: (("depth", ".npy"), ("depth", ".png"), ("labels", ".npy")),
}
"""Folders searched for the ground truth beside the images, by its type."""


def list_images(folder: Path) -> Iterator[str]:
    """Yield the relative paths of the images below a folder, sorted, hidden ones excluded."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (one.name, one.is_dir()) for one in entries if not one.name.startswith(".")
            )
    except OSError as error:
        raise InputError(
            f"Can't list {folder}: {error.strerror}.", "Check its permissions."
        ) from error
    for name, is_folder in found:
        if is_folder:
            yield from (f"{name}/{path}" for path in list_images(folder / name))
        elif Path(name).suffix.lower() in SUFFIXES:
            yield name


@dataclass(frozen=True)
class ClassFolders(FileSource):
    """A folder for each class; images beside these have no label.

    A folder is named after its class or the class's index. If none is, and there are as many
    folders as classes, they are the classes in order, as in torchvision's ``ImageFolder``.
    """

    def items(self) -> Iterator[Item]:
        """Yield the images, sorted by path."""
        folders = sorted(
            one.name for one in self.root.iterdir() if one.is_dir() and one.name[0] != "."
        )
        labels = self.labels(folders)
        for i, path in enumerate(list_images(self.root)):
            folder, slash, _ = path.partition("/")
            yield Item(i, path, labels[folder] if slash else None)

    def labels(self, folders: Sequence[str]) -> dict[str, str]:
        """Return the class of each folder, by name or index.

        Raises
        ------
        UsageError
            If some folders are not named after a class.
        """
        unknown = []
        for folder in folders:
            try:
                # Without class names any index passes; it is checked against the prediction.
                find_class(folder, self.classes, len(self.classes or ()) or 10**9)
            except TargetError:
                unknown.append(folder)
        if not unknown:
            return {folder: folder for folder in folders}
        counted = self.classes is None or len(self.classes) == len(folders)
        if counted and len(unknown) == len(folders):
            return {folder: str(i) for i, folder in enumerate(folders)}
        raise UsageError(
            f"{len(unknown)} of the {len(folders)} folders in {self.root} are not named after a "
            f"class of the model: {shorten_names(unknown)}.",
            "Name each folder after its class or the class's index ('cvx classes' lists them), or "
            "give a CSV with the columns path and label.",
        )


@dataclass(frozen=True)
class PairedFolders(FileSource):
    """Images, each with a file of the same name that holds its ground truth.

    Attributes
    ----------
    images, labels
        The folders, relative to the root.
    suffix
        Of the files with the ground truth.
    """

    images: str
    labels: str
    suffix: str

    def items(self) -> Iterator[Item]:
        """Yield the images, sorted by path.

        An image without a label file has no label; in YOLO format it has no objects.
        """
        for i, path in enumerate(list_images(self.root / self.images)):
            file = f"{self.labels}/{path[: -len(Path(path).suffix)]}{self.suffix}"
            label: str | None = file
            if not (self.root / file).is_file():
                label = "[]" if self.suffix == ".txt" else None
            yield Item(i, f"{self.images}/{path}", label)


def open_paired_folders(
    root: Path, name: str, task: str, classes: tuple[str, ...] | None
) -> PairedFolders:
    """Return the source for a folder with images and masks or boxes in sibling folders.

    Raises
    ------
    UsageError
        If these folders are not found.
    """
    folders = LABEL_FOLDERS.get(get_task(task).ground_truth, ())
    for images in IMAGE_FOLDERS:
        for labels, suffix in folders:
            if (root / images).is_dir() and (root / labels).is_dir():
                return PairedFolders(name, task, classes, root, images, labels, suffix)
    looked = ", ".join(f"{folder} ({suffix})" for folder, suffix in folders)
    if not folders:
        raise UsageError(
            f"A folder holds no labels for {task}.",
            "Give a CSV with the columns path and label.",
        )
    raise UsageError(
        f"No images with labels found in {root}.",
        f"For {task}, {root.name} must contain a folder {' or '.join(IMAGE_FOLDERS[:2])}, and "
        f"beside it one of: {looked}. "
        "Or give a CSV with the columns path and label, where label is a file.",
    )
