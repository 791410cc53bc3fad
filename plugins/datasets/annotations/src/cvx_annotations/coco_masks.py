"""The classes of an image's pixels, from the outlines and run lengths of COCO's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_annotations.class_names import ClassNames
from cvx_annotations.coco import (
    WAY_OUT,
    annotations_of,
    category_name,
    is_crowd,
    real_numbers,
)
from cvx_annotations.common import read_all
from cvx_annotations.orientation import upright_mask
from cvx_core import InputError, TargetError
from cvx_core.images import MAX_PIXELS, Polygon
from cvx_core.tasks import UNKNOWN, GroundTruthMask, background

_FORM = (
    "segmentation is a list of polygons [x1, y1, x2, y2, ...], or run lengths {size: [h, w], "
    "counts: [...] or text}."
)

Mask = npt.NDArray[np.bool_]


def read_coco_masks(file: Path, image: Path, names: ClassNames) -> GroundTruthMask:
    """Return the classes of the pixels of the image that has the name of `image`.

    Smaller objects lie on larger ones; crowds are unknown. What no annotation covers is the
    model's background, and unknown if it has no class of that name.
    """
    if names.classes is None:
        raise InputError(
            f"{file} names classes, and the model's outputs have no names.",
            "Give the model class names, or the ground truth as a mask of indices.",
        )
    entry, categories, found = annotations_of(file, image)
    try:
        shape = int(entry["height"]), int(entry["width"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{file}: the image lacks {error}.", WAY_OUT) from error
    if not 0 < shape[0] * shape[1] <= MAX_PIXELS or min(shape) < 1:
        raise InputError(f"{file}: an image of {shape[1]} x {shape[0]} pixels.", WAY_OUT)
    rest = background(names.classes)
    indices = np.full(shape, UNKNOWN if rest is None else rest, dtype=np.int64)

    def read(placed: tuple[str, dict[str, Any]]) -> tuple[int, Mask, int] | None:
        where, one = placed
        try:
            name, crowd = category_name(one, categories), is_crowd(one)
            mask = _mask(one["segmentation"], shape)
        except KeyError as error:
            raise InputError(f"{where}: no {error}.", _FORM) from error
        except TargetError as error:
            raise InputError(f"{where}: {error.message}", _FORM) from error
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}.", _FORM) from error
        index = UNKNOWN if crowd else names.find(name, where)
        return None if index is None else (int(mask.sum()), mask, int(index))

    for _, mask, index in sorted(read_all(found, read), key=lambda one: -one[0]):
        indices[mask] = index
    return GroundTruthMask(upright_mask(indices, image, str(file)))


def _mask(said: Any, shape: tuple[int, int]) -> Mask:
    if isinstance(said, dict):
        counts = said["counts"]
        height, width = said["size"]
        if (height, width) != shape:
            raise ValueError(f"size is {height} x {width}, the image {shape[0]} x {shape[1]}")
        return _filled(_unpacked(counts) if isinstance(counts, str) else counts, shape)
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
    mask = np.zeros(shape, dtype=bool)
    if not isinstance(said, list):
        raise ValueError(f"segmentation is {said!r:.60}")
    for corners in said:
        flat = real_numbers(corners)
        if len(flat) % 2:
            raise ValueError(f"a polygon of {len(flat)} numbers")
        mask |= Polygon(tuple(zip(flat[::2], flat[1::2], strict=True))).contains(x, y)
    return mask


def _filled(counts: Sequence[Any], shape: tuple[int, int]) -> Mask:
    """Return the mask of run lengths: outside, inside, outside, ..., column after column."""
    pixels = shape[0] * shape[1]
    if not all(type(run) is int and 0 <= run <= pixels for run in counts):
        raise ValueError(f"a run is a whole number of 0 to {pixels} pixels")
    runs = np.asarray(counts, dtype=np.int64)
    if runs.sum() != pixels:
        raise ValueError(f"counts add up to {runs.sum()}, not {pixels} pixels")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(shape[1], shape[0]).T


def _unpacked(text: str) -> list[int]:
    """Return the run lengths that COCO writes as text.

    Five bits to a character, the lowest first, the sixth says that more follow, and the last
    character's fifth is the sign; from the third on a run is written as its difference from the
    one before the last.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{letter!r} in the run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs
