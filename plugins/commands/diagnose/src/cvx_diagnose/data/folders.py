"""Folders of photographs: one for each class, or beside a folder of masks or boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvx_core import InputError, TargetError, UsageError
from cvx_core.tasks import find_class
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.sources import Files, known

SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "avif", "jp2", "j2k"),
    )
)
"""Files with other endings are no inputs."""

IMAGES = ("images", "JPEGImages", "img", "imgs")
TRUTHS = {
    "detection": (("labels", ".txt"), ("Annotations", ".xml"), ("annotations", ".xml")),
    "segmentation": (
        ("masks", ".png"),
        ("SegmentationClass", ".png"),
        ("annotations", ".png"),
        ("labels", ".png"),
    ),
}
"""Where what is true is looked for beside the images, by task."""


def photographs(folder: Path) -> Iterator[str]:
    """Yield the photographs below a folder by their paths from it, sorted; hidden ones are not."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (one.name, one.is_dir()) for one in entries if not one.name.startswith(".")
            )
    except OSError as error:
        raise InputError(
            f"{folder} can't be listed: {error.strerror}.", "Is it a folder that may be read?"
        ) from error
    for name, is_folder in found:
        if is_folder:
            yield from (f"{name}/{path}" for path in photographs(folder / name))
        elif Path(name).suffix.lower() in SUFFIXES:
            yield name


@dataclass(frozen=True)
class ClassFolders(Files):
    """A folder for each class; photographs beside them have no label.

    A folder is called as its class, or by the class's index. If none is, and there are as many
    folders as classes, they are the classes in order, as torchvision's ``ImageFolder`` counts.
    """

    def items(self) -> Iterator[Item]:
        """Yield the photographs, sorted by path."""
        folders = sorted(
            one.name for one in self.root.iterdir() if one.is_dir() and one.name[0] != "."
        )
        labels = self.labels(folders)
        for i, path in enumerate(photographs(self.root)):
            folder, slash, _ = path.partition("/")
            yield Item(i, path, labels[folder] if slash else None)

    def labels(self, folders: Sequence[str]) -> dict[str, str]:
        """Return the class of each folder, by name or index.

        Raises
        ------
        UsageError
            If a folder is called as no class.
        """
        unknown = []
        for folder in folders:
            try:
                # Of a model without names any index may be meant; it is checked with the answer.
                find_class(folder, self.classes, len(self.classes or ()) or 10**9)
            except TargetError:
                unknown.append(folder)
        if not unknown:
            return {folder: folder for folder in folders}
        counted = self.classes is None or len(self.classes) == len(folders)
        if counted and len(unknown) == len(folders):
            return {folder: str(i) for i, folder in enumerate(folders)}
        raise UsageError(
            f"{len(unknown)} of the {len(folders)} folders in {self.root} are called as no class "
            f"of the model: {known(unknown)}.",
            "Call a folder as its class or by the class's index ('cvx classes' lists them), or "
            "give a CSV with the columns path and label.",
        )


@dataclass(frozen=True)
class Pairs(Files):
    """Photographs, and for each a file of the same name that holds what is true.

    Attributes
    ----------
    images, truths
        The folders, from the root.
    suffix
        Of the files that hold what is true.
    """

    images: str
    truths: str
    suffix: str

    def items(self) -> Iterator[Item]:
        """Yield the photographs, sorted by path.

        Without a file of its own an image has no label; a YOLO image has no objects.
        """
        for i, path in enumerate(photographs(self.root / self.images)):
            truth = f"{self.truths}/{path[: -len(Path(path).suffix)]}{self.suffix}"
            label: str | None = truth
            if not (self.root / truth).is_file():
                label = "[]" if self.suffix == ".txt" else None
            yield Item(i, f"{self.images}/{path}", label)


def pairs(root: Path, name: str, task: str, classes: tuple[str, ...] | None) -> Pairs:
    """Return the folder's photographs with the masks or boxes that lie beside them.

    Raises
    ------
    UsageError
        If they are not where they are looked for.
    """
    for images in IMAGES:
        for truths, suffix in TRUTHS[task]:
            if (root / images).is_dir() and (root / truths).is_dir():
                return Pairs(name, task, classes, root, images, truths, suffix)
    looked = ", ".join(f"{folder} ({suffix})" for folder, suffix in TRUTHS[task])
    raise UsageError(
        f"{root} holds no images with what is true of them.",
        f"For {task} it has a folder {' or '.join(IMAGES[:2])}, and beside it one of: {looked}. "
        "Or give a CSV with the columns path and label, label being a file.",
    )
