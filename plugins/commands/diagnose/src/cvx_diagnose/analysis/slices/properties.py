"""Properties that a slice may be defined by: their values, and their names in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvx_diagnose.data.image_statistics import STATISTICS, TINY
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

COLUMNS = ("statistics", "tiny", "width", "height")
"""Columns of the rows that the properties of an image are computed from."""

_FEWEST = 10
"""Images of a class that make its mean image."""


@dataclass(frozen=True)
class Property:
    """A property of images or objects with a value for each.

    Attributes
    ----------
    name
        As in ``summary.json``.
    low, high
        What small and large values are called, with ``{}`` for the noun; empty: they mean nothing.
    fix
        What to do about images where the value is small, and where it is large; empty: collect
        more of them.
    preference
        Factor of the quality of a slice; see `cvx_diagnose.analysis.slices.candidates.Condition`.
    """

    name: str
    low: str
    high: str
    fix: tuple[str, str] = ("", "")
    preference: float = 1.0


_LOCAL = 0.6
"""Preference of a color at one position."""

_RELATIVE = 0.9
"""Preference of what is relative to a class."""

_SHARP = 0.95
"""Preference of sharpness: noise explains hard edges better where there is some."""

_EDGES = 0.75
"""Preference of the direction of edges, which a turn explains better where it is one."""

_DARK = 0.02
"""Minimum brightness that others are divided by."""

_LIGHT = "augment the training data with changes of brightness and contrast"
_TURN = "augment the training data with rotations"
_MIRROR = "augment the training data with mirror images"
_BLUR = "augment the training data with blur"
_COLOR = "augment the training data with changes of color"
_JPEG = "augment the training data with JPEG compression"
_NOISE = "augment the training data with noise"
_SCALE = "augment the training data with other scales"
_COVER = (
    "check whether it is part of the class; if not, cover it or add it to images of every class"
)

STATISTIC_PROPERTIES = (
    Property("brightness", "dark {}", "bright {}", (_LIGHT, _LIGHT)),
    Property("contrast", "{} of low contrast", "{} of high contrast", (_LIGHT, _LIGHT)),
    Property("sharpness", "blurred {}", "{} with hard edges", (_BLUR, ""), _SHARP),
    # Little noise is no property of its own: blurred images have least of it.
    Property("noise", "", "noisy {}", ("", _NOISE)),
    Property("blockiness", "{} without compression", "strongly compressed {}", ("", _JPEG)),
    Property("colorfulness", "{} with little color", "colorful {}", (_COLOR, _COLOR)),
    Property("red_green", "{} with more green", "{} with more red", (_COLOR, _COLOR)),
    Property("yellow_blue", "{} with more blue", "{} with more yellow", (_COLOR, _COLOR)),
    Property(
        "edges_upright",
        "{} with horizontal edges",
        "{} with vertical edges",
        (_TURN, _TURN),
        _EDGES,
    ),
    Property(
        "edges_diagonal",
        "{} with edges that fall to the right",
        "{} with edges that rise to the right",
        (_TURN, _TURN),
        _EDGES,
    ),
)
"""Of the image statistics, in their order."""

SIZE_PROPERTIES = (
    Property("pixels", "{} with few pixels", "{} with many pixels", (_SCALE, _SCALE)),
    Property("aspect", "tall {}", "wide {}"),
)
CLASS_PROPERTIES = (
    Property("turned", "{} in the usual position", "turned {}", ("", _TURN), _RELATIVE),
    Property(
        "mirrored", "{} in the usual order", "mirrored {}", ("", "augment with mirror images")
    ),
    Property("inverted", "{} like most of their class", "inverted {}", ("", _LIGHT), _RELATIVE),
)
"""How much more an image resembles the mean image of its class if it is changed so."""

OBJECT_PROPERTIES = (
    Property("object size", "small {}", "large {}", (_SCALE, _SCALE)),
    Property("objects", "{} in images of few objects", "{} in crowded images"),
    Property("overlap", "{} apart from others", "{} that overlap others"),
    Property("edge distance", "{} at the edge of the image", "{} far from the edge"),
)
REGION_PROPERTIES = (
    Property("region size", "small {}", "large {}", (_SCALE, _SCALE)),
    Property("classes", "{} in images of few classes", "{} in images of many classes"),
)

_ROWS, _SIDES = ("top", "middle", "bottom"), ("left", "center", "right")


def _tiny_properties() -> tuple[Property, ...]:
    found = []
    for low, high in (("dark", "bright"), ("green", "red"), ("blue", "yellow")):
        for y in range(TINY):
            for x in range(TINY):
                where = f"{_ROWS[3 * y // TINY]} {_SIDES[3 * x // TINY]}"
                found.append(
                    Property(
                        f"{low} to {high} at {x},{y} of {TINY}",
                        f"{{}} that are {low} at the {where}",
                        f"{{}} that are {high} at the {where}",
                        (_COVER, _COVER),
                        _LOCAL,
                    )
                )
    return tuple(found)


TINY_PROPERTIES = _tiny_properties()
"""Colors at each position of the reduced image."""

IMAGE_PROPERTIES = (*STATISTIC_PROPERTIES, *SIZE_PROPERTIES, *TINY_PROPERTIES)


def image_properties(run: Run, table: pa.Table) -> Numbers:
    """Return the values of `IMAGE_PROPERTIES` (n, P) of rows; nan where they are unknown.

    Contrast, noise and colorfulness are relative to the brightness: a dark image has less of each.
    """
    statistics = table["statistics"].combine_chunks()
    known = {
        name: pa.compute.struct_field(statistics, name).to_numpy(zero_copy_only=False)
        for name in STATISTICS
    }
    width, height = (
        table[name].cast(pa.float64()).to_numpy().astype(float) for name in ("width", "height")
    )
    tiny = run.numbers(table, "tiny").reshape(-1, TINY**2, 3) / 255
    light = np.maximum(tiny.mean(2), _DARK)
    known["contrast"] = known["contrast"] / light.max(1)
    known["noise"] = known["noise"] / light.max(1)
    known["colorfulness"] = known["colorfulness"] / light.mean(1)
    columns = [*known.values(), width * height, width / np.maximum(height, 1)]
    red, green, blue = (tiny[..., k] for k in range(3))
    opponents = [tiny.mean(2), red - green, (red + green) / 2 - blue]
    return np.concatenate([np.stack(columns, 1), *opponents], 1, dtype=np.float32)


def class_properties(values: Numbers, classes: Whole, searched: npt.NDArray[np.bool_]) -> Numbers:
    """Return the values of `CLASS_PROPERTIES` (n, 3): gains in correlation with the class's mean.

    They are 0 for images that resemble it most as they are.

    Parameters
    ----------
    values
        (n, P), of `IMAGE_PROPERTIES`.
    classes
        (n,), true classes.
    searched
        (n,), the images that make the mean. nan for a class with fewer than 10 of them.
    """
    first = len(STATISTIC_PROPERTIES) + len(SIZE_PROPERTIES)
    found = np.full((len(values), len(CLASS_PROPERTIES)), np.nan, dtype=np.float32)
    for c in np.unique(classes):
        at = np.flatnonzero(classes == c)
        images = _standard(values[at, first : first + TINY**2])
        own = images[searched[at]]
        if len(own) < _FEWEST:
            continue
        mean = _standard(np.nan_to_num(own).mean(0)[None]).reshape(TINY, TINY)
        plain = images @ mean.ravel()
        turned = np.stack([images @ np.rot90(mean, k).ravel() for k in (1, 2, 3)]).max(0)
        mirrored = images @ mean[:, ::-1].ravel()
        found[at] = np.stack([turned - plain, mirrored - plain, -2 * plain], 1).clip(min=0)
    return found


def _standard(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return images (n, P) with mean 0 and norm 1."""
    images = images - images.mean(1, keepdims=True)
    found: npt.NDArray[Any] = images / np.maximum(
        np.linalg.norm(images, axis=1, keepdims=True), 1e-6
    )
    return found
