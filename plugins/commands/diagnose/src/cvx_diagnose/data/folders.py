"""Sources from folders: one folder for each class, or images beside masks or boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from cvx_annotations.class_names import ClassNames
from cvx_annotations.yolo import class_names_near

from cvx_core import (
    GroundTruthBoxes,
    GroundTruthMask,
    InputError,
    TargetError,
    UsageError,
    get_task,
    read_text,
)
from cvx_core.images import SUFFIXES
from cvx_core.tasks import find_class
from cvx_diagnose.data.items import Item
from cvx_diagnose.data.sources import FileSource, fetch_class_names, shorten_names
from cvx_diagnose.data.storage import Storage

IMAGE_FOLDERS = ("images", "JPEGImages", "img", "imgs")
LABEL_FOLDERS: dict[type, tuple[tuple[str, str], ...]] = {
    GroundTruthBoxes: (("labels", ".txt"), ("Annotations", ".xml"), ("annotations", ".xml")),
    GroundTruthMask: (
        ("masks", ".png"),
        ("SegmentationClass", ".png"),
        ("annotations", ".png"),
        ("labels", ".png"),
        ("mask", ".png"),
    ),
    np.ndarray: (("depth", ".npy"), ("depth", ".png"), ("labels", ".npy")),
}
"""Folders searched for the ground truth beside the images, by its type."""


def list_images(storage: Storage, folder: str = "") -> Iterator[str]:
    """Yield the relative paths of the images below a folder, sorted, hidden ones excluded."""
    for name, is_folder in storage.entries(folder).items():
        if name.startswith("."):
            continue
        if is_folder:
            below = f"{folder}/{name}" if folder else name
            yield from (f"{name}/{path}" for path in list_images(storage, below))
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
        folders = [
            name
            for name, is_folder in self.storage.entries().items()
            if is_folder and not name.startswith(".")
        ]
        labels = self.labels([one for one in folders if self.renamed.get(one) != ""])
        for i, path in enumerate(list_images(self.storage)):
            folder, slash, _ = path.partition("/")
            yield Item(i, path, labels.get(folder) if slash else None)

    def labels(self, folders: Sequence[str]) -> dict[str, str]:
        """Return the label of each folder: its name, or an index.

        `read_item_label` renames it.

        Raises
        ------
        UsageError
            If some folders are not named after a class.
        """
        unknown = []
        called = {folder: self.renamed.get(folder, folder) for folder in folders}
        for folder, name in called.items():
            try:
                # Without class names any index passes; it is checked against the prediction.
                find_class(name, self.classes, len(self.classes or ()) or 10**9)
            except TargetError:
                unknown.append(folder)
        if not unknown:
            return {folder: folder for folder in folders}
        counted = self.classes is None or len(self.classes) == len(folders)
        if counted and len(unknown) == len(folders):
            return {folder: str(i) for i, folder in enumerate(folders)}
        table = ""
        try:
            ClassNames(self.classes, self.renamed).check(folders, str(self.storage))
        except InputError as error:
            table = error.message.partition("\n")[2]
        raise UsageError(
            f"{len(unknown)} of the {len(folders)} folders in {self.storage} are not named after a "
            f"class of the model: {shorten_names(unknown)}." + (f"\n{table}" if table else ""),
            "Name each folder after its class or the class's index ('cvx classes' lists them), say "
            f"which class it is (--classes-map '{unknown[0]}=NAME'; '{unknown[0]}=' leaves its "
            "images without a label), or give a CSV with the columns path and label.",
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

    @property
    def labels_searched(self) -> str:
        """The names that were looked for."""
        first = next(list_images(self.storage, self.images), f"NAME{self.suffix}")
        names = list(self._names(first))
        shown = ", ".join(names[:4]) + (" and others" if len(names) > 4 else "")
        return (
            f"For {self.images}/{first} {shown} were looked for. Name each file with a label after "
            "its image, or give a CSV with the columns path and label."
        )

    def items(self) -> Iterator[Item]:
        """Yield the images, sorted by path.

        An image without a label file has no label; in YOLO format it has no objects.
        """
        for i, path in enumerate(list_images(self.storage, self.images)):
            found = map(self.storage.find, self._names(path))
            label = next((one for one in found if one is not None), None)
            if label is None and self.suffix == ".txt":
                label = "[]"
            yield Item(i, f"{self.images}/{path}", label)

    def _names(self, image: str) -> Iterator[str]:
        """Yield the files that may hold an image's label, the most likely first."""
        stem = image[: -len(Path(image).suffix)]
        folder, slash, last = stem.rpartition("/")
        if self.suffix not in MASK_FILES:
            yield f"{self.labels}/{stem}{self.suffix}"
            return
        names = [last, *(last + ending for ending in MASK_ENDINGS), f"mask_{last}"]
        for ending in IMAGE_ENDINGS:
            base = last.removesuffix(ending)
            if base != last:
                names += [base, *(base + other for other in MASK_ENDINGS)]
        for suffix in dict.fromkeys((self.suffix, *MASK_FILES)):
            yield from (f"{self.labels}/{folder}{slash}{name}{suffix}" for name in names)


@dataclass(frozen=True)
class YoloSplit(FileSource):
    """The images of one split of a YOLO ``data.yaml``, each with its file of boxes.

    Attributes
    ----------
    places
        Folders of images, or text files that list images.
    """

    places: tuple[str, ...]

    @property
    def labels_searched(self) -> str:
        """Where labels are searched."""
        return (
            "For each image a .txt of the same name was looked for, with labels/ in place of "
            "images/ in its path; an image without one has no objects."
        )

    def items(self) -> Iterator[Item]:
        """Yield the images in order."""
        names = (name for place in self.places for name in self._images(place))
        for i, name in enumerate(names):
            before, _, after = f"/{name}".rpartition("/images/")
            stem = after[: -len(Path(after).suffix)]
            label = f"{before}/labels/{stem}.txt".removeprefix("/")
            yield Item(i, name, self.storage.find(label) or "[]")

    def _images(self, place: str) -> Iterator[str]:
        if not place.endswith(".txt"):
            yield from (f"{place}/{name}" for name in list_images(self.storage, place))
            return
        folder = place.rpartition("/")[0]
        lines = map(str.strip, read_text(self.storage.fetch(place)).splitlines())
        for line in filter(None, lines):
            yield str(PurePosixPath(folder, line)) if line.startswith("./") else line


SPLITS = ("val", "valid", "validation", "test", "train")
"""Splits of a ``data.yaml``: the first that it has is used, unless one is named."""


def open_yolo_config(
    storage: Storage,
    file: str,
    name: str,
    task: str,
    classes: tuple[str, ...] | None,
    renamed: Mapping[str, str] | None = None,
    split: str | None = None,
) -> YoloSplit:
    """Return the source for a split of a YOLO ``data.yaml``.

    Raises
    ------
    InputError
        If it is no such file, names classes that the model doesn't know, or its images are not
        found.
    """
    hint = "A data.yaml has names, and val (or train, test): a folder, a .txt list, or several."
    try:
        said = yaml.safe_load(read_text(storage.fetch(file)))
        names = said["names"]
        called = dict(enumerate(names)) if isinstance(names, list) else dict(names)
        wanted = [split] if split else [one for one in SPLITS if said.get(one)]
        given = said[wanted[0]]
        places = given if isinstance(given, list) else [given]
        # Aliases of lists of aliases would become a text without end.
        scalars = (*called.values(), *places, said.get("path"))
        if any(isinstance(one, list | dict | set) for one in scalars):
            raise ValueError("a name or a path is nested")
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, KeyError, IndexError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else "is no data.yaml of YOLO"
        raise InputError(f"{name} {lacks}.", hint) from error
    renamed = renamed or {}
    texts = {str(number): str(one) for number, one in called.items()}
    ClassNames(classes, renamed).check(texts.values(), name)
    composed = {key: renamed.get(key, renamed.get(one, one)) for key, one in texts.items()}
    roots = [str(said.get("path") or "").strip("/") if storage.url else str(said.get("path") or "")]
    found, looked = [], []
    for place in places:
        # Some tools write paths from the file's own folder, whatever `path` says.
        tried = [str(PurePosixPath(root, str(place))) for root in (*roots, "")]
        there = (one for one in tried if storage.is_folder(one) or storage.is_file(one))
        found.append(next(there, ""))
        looked += tried
    if not all(found):
        shown = ", ".join(f"{storage}/{one}" for one in dict.fromkeys(looked))
        raise InputError(
            f"The images of {wanted[0]!r} in {name} were not found.", f"Looked for {shown}."
        )
    return YoloSplit(name, task, classes, storage, tuple(found), renamed={**renamed, **composed})


MASK_FILES = (".png", ".tif", ".tiff", ".bmp", ".gif")
MASK_ENDINGS = (
    *("_mask", "-mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt"),
    *("_labelIds", "_gtFine_labelIds", "_L", "_target"),
)
IMAGE_ENDINGS = ("_image", "_img", "_leftImg8bit", "_rgb", "-image")
"""What is added to the names of masks, and of images."""


def open_paired_folders(
    storage: Storage,
    name: str,
    task: str,
    classes: tuple[str, ...] | None,
    renamed: Mapping[str, str] | None = None,
) -> PairedFolders:
    """Return the source for a folder with images and masks or boxes in sibling folders.

    Raises
    ------
    InputError
        If the folder names classes that the model doesn't know.
    UsageError
        If these folders are not found.
    """
    renamed = renamed or {}
    folders = LABEL_FOLDERS.get(get_task(task).ground_truth, ())
    for images in IMAGE_FOLDERS:
        for labels, suffix in folders:
            if storage.is_folder(images) and storage.is_folder(labels):
                called = None
                if suffix == ".txt":
                    if storage.url:
                        fetch_class_names(storage, labels)
                    called = class_names_near(storage.root / labels)
                if called is not None:
                    ClassNames(classes, renamed).check(called[1].values(), str(called[0]))
                return PairedFolders(
                    name, task, classes, storage, images, labels, suffix, renamed=renamed
                )
    looked = ", ".join(f"{folder} ({suffix})" for folder, suffix in folders)
    if not folders:
        raise UsageError(
            f"A folder holds no labels for {task}.",
            "Give a CSV with the columns path and label.",
        )
    raise UsageError(
        f"No images with labels found in {storage}.",
        f"For {task}, {storage.name} must contain a folder {' or '.join(IMAGE_FOLDERS[:2])}, and "
        f"beside it one of: {looked}. "
        "Or give a CSV with the columns path and label, where label is a file.",
    )
