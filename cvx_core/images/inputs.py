"""Images as people give them: files, folders, patterns, URLs, data loaders."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from cvx_core._util.files import is_file
from cvx_core.errors import InputError, UsageError
from cvx_core.images.image_files import SUFFIXES, SourceImage, is_by_name, is_url

IMAGE_KEYS = ("image", "images", "pixel_values", "img")
LABEL_KEYS = ("label", "labels", "target", "targets")
"""Keys of a batch that is a dictionary."""


def image_paths(source: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """Return what a path stands for: the images of a folder or a pattern, or itself.

    Parameters
    ----------
    source
        A file; a folder, whose images are found in all folders below it, hidden ones left out; a
        pattern such as ``"photos/**/*.jpg"``, where there is no such file; or a URL that fsspec
        knows.

    Returns
    -------
    list
        Paths and URLs; those of a folder or a pattern sorted.

    Raises
    ------
    InputError
        If a folder or a pattern has no image.
    """
    text = os.fspath(source)
    if is_url(text):
        return [text]
    if Path(text).is_dir():
        found = sorted(
            str(Path(folder) / name)
            for folder, below, names in os.walk(text)
            for name in _seen(below, names)
        )
        if not found:
            raise InputError(
                f"The folder {text} has no images.", f"Suffixes: {', '.join(sorted(SUFFIXES))}."
            )
        return [*found]
    if not glob.has_magic(text) or Path(text).exists():
        return [source]
    matches = sorted(one for one in glob.glob(text, recursive=True) if is_file(one))  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise InputError(f"No file matches {text!r}.", "'**' matches folders of any depth.")
    return [*matches]


def _seen(below: list[str], names: list[str]) -> list[str]:
    """Return the images of a folder, and leave hidden folders out of the walk."""
    below[:] = [one for one in below if not one.startswith(".")]
    return [n for n in names if n[0] != "." and Path(n).suffix.lower() in SUFFIXES]


def listed(images: Any) -> list[Any]:
    """Return images as a list, one element for each: see `image_paths`.

    Parameters
    ----------
    images
        A path, folder, pattern, URL, PIL image or array, or a sequence of these.
    """
    one = isinstance(images, str | os.PathLike | SourceImage) or not hasattr(images, "__iter__")
    # A PIL image, or an array.
    if one or hasattr(images, "getbands") or hasattr(images, "__array_interface__"):
        images = [images]
    return [
        one
        for item in images
        for one in (image_paths(item) if isinstance(item, str | os.PathLike) else [item])
    ]


def is_loader(images: Any) -> bool:
    """Whether images come in batches or with labels: from a data loader or a data set of torch."""
    from torch.utils.data import DataLoader, Dataset

    return isinstance(images, DataLoader | Dataset)


def label_names(images: Any) -> list[str] | None:
    """Return the class names of a data set of torch, to which its labels refer; None if unknown."""
    from torch.utils.data import DataLoader

    while isinstance(images, DataLoader) or hasattr(images, "dataset"):  # a subset of another
        images = images.dataset
    found = getattr(images, "classes", None)
    if not isinstance(found, list | tuple) or not found:
        return None
    # ImageNet's are tuples of synonyms.
    return [str(one[0] if isinstance(one, list | tuple) and one else one) for one in found]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some of the images, with their labels where they come with them; else None."""

    images: Any
    labels: Any = None


def batches(images: Any, size: int) -> Iterator[Batch]:
    """Yield images a few at a time, each read when its batch is.

    Parameters
    ----------
    images
        See `listed`; or a data loader or data set of torch, whose items are images, pairs of image
        and label, or dictionaries (see `IMAGE_KEYS` and `LABEL_KEYS`).
    size
        Images in a batch. Those of a data loader stay as they are.

    Raises
    ------
    InputError
        If a batch has another form.
    """
    import torch
    from torch.utils.data import DataLoader, Dataset

    if isinstance(images, DataLoader):
        yield from map(_parts, images)
    elif isinstance(images, Dataset):
        items = map(_parts, _items(images))
        while parts := list(islice(items, size)):
            yield _joined(parts)
    elif isinstance(images, torch.Tensor):
        yield from map(Batch, torch.split(images, size) if images.ndim == 4 else [images])
    else:
        found = images if isinstance(images, Iterator) else iter(listed(images))
        while several := list(islice(found, size)):
            yield Batch(several)


def count_images(images: Any) -> int | None:
    """Return the number of images, if it is known before they are read."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    if isinstance(images, DataLoader):
        sampler: Any = images.sampler
        sized = hasattr(images.dataset, "__len__") and hasattr(sampler, "__len__")
        whole = images.batch_size is not None and not images.drop_last
        return len(sampler) if sized and whole else None
    if isinstance(images, Dataset):
        return len(images) if hasattr(images, "__len__") else None
    if isinstance(images, torch.Tensor):
        return len(images) if images.ndim == 4 else 1
    return None if isinstance(images, Iterator) else len(listed(images))


def _items(images: Any) -> Iterator[Any]:
    # A data set has no end of its own for `iter` unless it raises IndexError.
    if hasattr(images, "__len__"):
        yield from (images[k] for k in range(len(images)))
    else:
        yield from images


def _parts(item: Any) -> Batch:
    """Return a batch or an item of a data set as images and labels."""
    if isinstance(item, Mapping):
        image = [item[key] for key in IMAGE_KEYS if key in item]
        label = [item[key] for key in LABEL_KEYS if key in item]
        if not image:
            raise InputError(
                f"A batch has no images: its keys are {', '.join(map(str, item))}.",
                f"Use one of the keys {', '.join(IMAGE_KEYS)}.",
            )
        return Batch(image[0], label[0] if label else None)
    if isinstance(item, list | tuple):
        if not 1 <= len(item) <= 2:
            raise InputError(
                f"A batch has {len(item)} parts.",
                "The data loader must yield images, or (images, labels).",
            )
        return Batch(*item)
    return Batch(item)


def _joined(several: Sequence[Batch]) -> Batch:
    labels = [one.labels for one in several]
    known = any(one is not None for one in labels)
    return Batch([one.images for one in several], labels if known else None)


@dataclass(frozen=True, eq=False)
class Parts:
    """Targets or labels, given out with the images that they belong to.

    Attributes
    ----------
    given
        One for all images, one for each, or a mapping by path or name of the image.
    each
        Whether there is one for each.
    what
        ``"targets"`` or ``"labels"``, for messages.
    """

    given: Any
    each: bool
    what: str
    _used: set[Any] = field(default_factory=set)

    def of(self, start: int, names: Sequence[Sequence[str]]) -> Any:
        """Return those of some images, the first of which has the number `start`."""
        if self.each:
            return self.given[start : start + len(names)]
        if not is_by_name(self.given):
            return self.given
        here = {one for several in names for one in several}
        found = {key: value for key, value in self.given.items() if os.fspath(key) in here}
        self._used.update(found)
        return found or None

    def check_count(self, count: int | None) -> None:
        """Check that there are as many as images, if there is one for each.

        Raises
        ------
        UsageError
            If there are not.
        """
        if self.each and count is not None and len(self.given) != count:
            raise UsageError(
                f"There are {count} images and {len(self.given)} {self.what}.",
                "Give one for all images, or one for each.",
            )

    def check_used(self, count: int) -> None:
        """Check, after all images, that each was used.

        Raises
        ------
        UsageError
            If one was not.
        """
        self.check_count(count)
        if is_by_name(self.given) and (left := [k for k in self.given if k not in self._used]):
            raise UsageError(
                f"{len(left)} of the {self.what} are for images that were not given, such as "
                f"{os.fspath(left[0])!r}.",
                "Name images by their path, or by the name of the file.",
            )


def ndim(value: Any) -> int:
    """Return the number of axes of a tensor or an array; 0 for anything else."""
    found = getattr(value, "ndim", 0)
    return found if isinstance(found, int) else 0
