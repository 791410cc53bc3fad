"""Ground truth of an image: a class for each pixel, or boxes with classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvx_core._util.files import is_file
from cvx_core._util.tables import (
    LABEL_COLUMNS as LABEL_COLUMNS,
    PATH_COLUMNS as PATH_COLUMNS,
    TEXT_TABLES as TEXT_TABLES,
    delimiter as delimiter,
    find_column as find_column,
    label_in_table,
)
from cvx_core._util.text import brief
from cvx_core.errors import TargetError, UsageError, install_command
from cvx_core.images.image_files import is_by_name
from cvx_core.images.regions import Frame
from cvx_core.plugins.discovery import registry

T = TypeVar("T")

FOLDER = "folder"
"""Instead of a label: the name of the image's folder."""

Names = Sequence[str]
"""What an image may be called: its path, its name."""

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

    def __repr__(self) -> str:
        return brief(self)

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
            "No reader of ground truth is installed.",
            f"Install one: {install_command('cvx-annotations')}",
        )
    found: T = offers[0].component.load()(path, form, image, classes)
    return found


def label_of(label: Any, image: str | Path, classes: Sequence[str] | None = None) -> Any:
    """Return the label of one image where a label says where those of all images are.

    Parameters
    ----------
    label
        ``"folder"`` for the name of the image's folder, or the path of a CSV with the columns path
        and label (TSV too). Anything else is returned as it is.
    image
        The image, by path.
    classes
        The model's class names: ``"folder"`` is no folder where a class has that name.

    Returns
    -------
    The label, as text; None where the CSV has none for the image.

    Raises
    ------
    InputError
        If the CSV can't be read, or doesn't have the image.

    Examples
    --------
    >>> label_of("folder", "photos/tabby/1.jpg"), label_of("tabby", "photos/1.jpg")
    ('tabby', 'tabby')
    """
    if not isinstance(label, str | os.PathLike):
        return label
    text = os.fspath(label)
    if text == FOLDER and FOLDER not in (classes or ()):
        return Path(image).absolute().parent.name if str(image) else text
    file = Path(text)
    if file.suffix.lower() not in TEXT_TABLES or not is_file(file):
        return text
    found = label_in_table(file, image)
    beside = file.parent / found if found else file
    # The label of a mask or of boxes is a file, whose path is relative to the table.
    return str(beside) if found and Path(found).suffix and is_file(beside) else found


def by_name(value: Any, names: Sequence[Names], what: str) -> Any:
    """Return the values of images, in order, from a mapping by name or path.

    Parameters
    ----------
    value
        A mapping from names of images; anything else is returned as it is.
    names
        What each image may be called, the most precise first.
    what
        What the values are, for messages.

    Raises
    ------
    UsageError
        If one name stands for several images, or for none.
    """
    if not is_by_name(value):
        return value
    keys = {os.fspath(k) if isinstance(k, os.PathLike) else k: k for k in value}
    chosen = [next((n for n in several if n and n in keys), None) for several in names]
    if missing := [key for key in keys if key not in chosen]:
        raise UsageError(
            f"There is a {what} for {missing[0]!r}, which is not among the images.",
            "Name images by their path, or by the name of the file.",
        )
    twice = {n for n in chosen if n is not None and chosen.count(n) > 1}
    if twice:
        raise UsageError(
            f"{len([n for n in chosen if n in twice])} images are called {min(twice)!r}, and "
            f"there is one {what} of that name.",
            "Give the paths.",
        )
    return [None if name is None else value[keys[name]] for name in chosen]


def plain(value: Any) -> Any:
    """Return a tensor or an array as Python numbers and lists; anything else as it is.

    Examples
    --------
    >>> import torch
    >>> plain(torch.tensor([7, 3])), plain(torch.tensor(7)), plain("tabby")
    ([7, 3], 7, 'tabby')
    """
    return value.tolist() if hasattr(value, "tolist") else value


GroundTruth = Any
"""Ground truth of an image in the form that its task needs.

A class by name or index, `GroundTruthMask`, `GroundTruthBoxes`, or what a plugin's task takes.
"""
