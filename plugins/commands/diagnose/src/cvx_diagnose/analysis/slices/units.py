"""Units that slices consist of: images, objects of a detector, classes in a segmented image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.linalg import eigh

from cvx_diagnose.analysis.metrics.box_matching import FOUND, match_boxes
from cvx_diagnose.analysis.metrics.statistics import shuffle_ids
from cvx_diagnose.analysis.slices.properties import (
    CLASS_PROPERTIES,
    COLUMNS,
    IMAGE_PROPERTIES,
    OBJECT_PROPERTIES,
    REGION_PROPERTIES,
    Property,
    class_properties,
    image_properties,
)
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import OK, Row

Numbers = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Columns = Mapping[int, Mapping[str, Any]]
"""Of each input, by its id, the values of the further columns of a table of data."""

MOST = 40_000
"""Maximum number of images that are searched, drawn by a digest of their ids."""

_DIMENSIONS = 16
"""Principal components of the features that are kept."""

_NUMBERS_FROM = 12
"""Different numbers in a column from which it is a property, and not a category."""

_MOST_VALUES = 50
"""Maximum number of different values of a category, the most common ones."""


@dataclass(eq=False)
class Units:
    """Units of a run with a known result.

    Attributes
    ----------
    noun
        What one is called, in the plural.
    ids
        (n,), of its image. Units of one image are in the same half.
    right
        (n,), whether the prediction is right.
    classes
        (n,), true classes; -1 where there is none.
    searched
        (n,), the half that slices are found on; they are tested on the other. See `swapped`.
    properties, values
        P properties, and their values (n, P); nan where unknown.
    categories
        Of each name (n,) texts, empty where unknown.
    features
        (n, F), principal components of the features; F may be 0.
    """

    noun: str
    ids: Whole
    right: Flags
    classes: Whole
    searched: Flags
    properties: list[Property]
    values: Numbers
    categories: dict[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    features: Numbers = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.ids)

    def with_right(self, right: Flags) -> Units:
        """Return the same units with other results."""
        return replace(self, right=right)

    def swapped(self) -> Units:
        """Return the same units with the halves exchanged."""
        return replace(self, searched=~self.searched)

    @property
    def design_effect(self) -> float:
        """How much more the accuracy varies than if units of one image were independent, >= 1.

        By which counts are divided before a test (Rao and Scott, Biometrics 1992).
        """
        images, at = np.unique(self.ids, return_inverse=True)
        if len(images) == len(self):
            return 1.0
        share = self.right.mean()
        excess = np.bincount(at, weights=self.right - share)
        binomial = len(self) * share * (1 - share)
        return max(1.0, float((excess**2).sum() / binomial)) if binomial > 0 else 1.0


def read_units(
    run: Run, columns: Columns | None = None, without: Sequence[int] = ()
) -> Units | None:
    """Return the units of a run, or None where nothing is labeled.

    Objects of a detector are right if a reported box of their class overlaps them by an
    intersection over union of 0.5; classes in an image of a segmenter if theirs is 0.5; images
    of other tasks if their prediction has no error.

    Parameters
    ----------
    columns
        Further columns of the data.
    without
        Ids of inputs that are left out.
    """
    kind, more, noun, own = _kind(run)
    has_label = "label" in run.schema.names
    chosen = _chosen(run, without)
    read = ["id", "sha256", "status", "correct", "features", *COLUMNS, *more]
    parts, rows = [], []
    for table in run.blocks([*read, *(["label"] if has_label else [])]):
        keep = pc.and_(pc.equal(table["status"], OK), table["correct"].is_valid())
        kept = table.filter(pc.and_(keep, pc.is_in(table["id"], chosen)))
        if not len(kept):
            continue
        parts.append(_Part.of(run, kept, has_label))
        if own is not None:
            rows += kept.select(["id", "width", "height", *more]).to_pylist()
    if not parts:
        return None
    whole = _Part(
        *(
            np.concatenate(several)
            for several in zip(*(vars(p).values() for p in parts), strict=True)
        )
    )
    images = Units(
        noun,
        whole.ids,
        whole.right,
        whole.classes,
        _half(whole.files),
        list(IMAGE_PROPERTIES),
        whole.values,
        features=_components(whole.features, _half(whole.files)),
    )
    if own is not None:
        images = _expand(images, rows, own, kind, run)
    elif has_label:
        images.properties += CLASS_PROPERTIES
        more_values = class_properties(images.values, images.classes, images.searched)
        images.values = np.concatenate([images.values, more_values], 1)
    _add_columns(images, columns or {})
    return images


def _kind(run: Run) -> tuple[str, list[str], str, Any]:
    """Return the column that units are made of, all that it takes, their noun, and what does it."""
    names = run.schema.names
    if "detections" in names:
        return "detections", ["detections", "ground_truth"], "objects", _objects
    if "pixels" in names:
        return "pixels", ["pixels"], "regions", _regions
    return "", [], "images", None


def unit_keys(ids: Sequence[int], classes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return for units the id of their image, their class, and how many such came before."""
    seen: dict[tuple[int, int], int] = {}
    keys = []
    for pair in zip(ids, classes, strict=True):
        keys.append((*pair, seen.setdefault(pair, 0)))
        seen[pair] += 1
    return keys


def unit_results(run: Run) -> dict[tuple[int, int, int], bool]:
    """Return whether each unit of a run is right, by the key of `unit_keys`.

    Images have the class -1, whatever their label.
    """
    _, more, _, own = _kind(run)
    ids: list[int] = []
    made: list[tuple[int, bool]] = []
    for table in run.blocks(["id", "status", "correct", "width", "height", *more]):
        for row in table.to_pylist():
            if row["status"] != OK or row["correct"] is None:
                continue
            several = [(-1, bool(row["correct"]))]
            if own is not None:
                several = [(c, right) for right, c, _ in own(row, run)]
            ids += [row["id"]] * len(several)
            made += several
    keys = unit_keys(ids, [c for c, _ in made])
    return {key: right for key, (_, right) in zip(keys, made, strict=True)}


@dataclass
class _Part:
    """Some rows of a run."""

    ids: Whole
    right: Flags
    classes: Whole
    files: npt.NDArray[Any]
    values: Numbers
    features: Numbers

    @classmethod
    def of(cls, run: Run, table: pa.Table, has_label: bool) -> _Part:
        none = np.full(len(table), -1)
        return cls(
            table["id"].to_numpy(),
            table["correct"].to_numpy(),
            table["label"].fill_null(-1).to_numpy().astype(np.int64) if has_label else none,
            np.array(table["sha256"].to_pylist(), dtype=object),
            image_properties(run, table),
            np.nan_to_num(run.numbers(table, "features")).astype(np.float32),
        )


def _chosen(run: Run, without: Sequence[int]) -> pa.Array:
    every = (int(one) for block in run.blocks(["id"]) for one in block["id"].to_pylist())
    left_out = set(without)
    ids = [one for one in every if one not in left_out]
    return pa.array(ids if len(ids) <= MOST else sorted(shuffle_ids(ids)[:MOST]), pa.int64())


def _half(files: npt.NDArray[Any]) -> Flags:
    """Return which images are in the first half: copies of a file are in the same."""
    names = np.unique(files.astype(str))
    first = set(names[: len(names) // 2].tolist())  # digests are in random order
    return np.array([str(one) in first for one in files], dtype=bool)


def _components(features: Numbers, searched: Flags) -> Numbers:
    """Return the principal components (n, 16) of features (n, F)."""
    if features.shape[1] <= _DIMENSIONS or searched.sum() < 2:
        return features
    limit = float(np.finfo(np.float16).max)
    features = features.clip(-limit, limit)
    some = features[searched].astype(np.float64)
    mean = some.mean(0)
    size = some.shape[1]
    _, axes = eigh(np.cov((some - mean).T), subset_by_index=(size - _DIMENSIONS, size - 1))
    found: Numbers = (features - mean.astype(np.float32)) @ axes.astype(np.float32)
    return found


_Made = tuple[bool, int, list[float]]
"""Result, class and values of one unit."""


def _expand(images: Units, rows: Sequence[Row], own: Any, kind: str, run: Run) -> Units:
    """Return the objects or regions of images as units; each has the properties of its image."""
    of: list[int] = []
    made: list[_Made] = []
    for k, row in enumerate(rows):
        several = list(own(row, run))
        of += [k] * len(several)
        made += several
    at = np.array(of, dtype=np.int64)
    more = OBJECT_PROPERTIES if kind == "detections" else REGION_PROPERTIES
    values = np.array([one[2] for one in made], dtype=np.float32).reshape(-1, len(more))
    return replace(
        images,
        ids=images.ids[at],
        right=np.array([one[0] for one in made], dtype=bool),
        classes=np.array([one[1] for one in made], dtype=np.int64),
        searched=images.searched[at],
        properties=[*images.properties, *more],
        values=np.concatenate([images.values[at], values], 1),
        features=np.zeros((len(at), 0), dtype=np.float32),
    )


def _objects(row: Row, run: Run) -> Iterator[_Made]:
    objects = [one for one in row["ground_truth"] or () if not one["crowd"]]
    if not objects:
        return
    threshold = run.plan.threshold or 0.0
    reported = [
        {"box": one["box"], "class": one["class"], "crowd": False}
        for one in row["detections"] or ()
        if one["score"] > threshold
    ]
    boxes = np.array([one["box"] for one in objects], dtype=np.float64)
    classes = np.array([one["class"] for one in objects])
    found, _ = match_boxes(boxes, classes, reported)
    size = np.array([row["width"] or boxes[:, 2].max(), row["height"] or boxes[:, 3].max()])
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    areas = sides.prod(1)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    np.fill_diagonal(shared, 0)
    overlap = (shared / np.maximum(areas, 1e-9)[:, None]).max(1)
    edge = np.concatenate([boxes[:, :2] / size, 1 - boxes[:, 2:] / size], 1).min(1)
    scale = np.sqrt(areas / size.prod())
    for k in range(len(boxes)):
        values = [float(scale[k]), float(len(boxes)), float(overlap[k]), float(edge[k])]
        yield bool(found[k]), int(classes[k]), values


def _regions(row: Row, run: Run) -> Iterator[_Made]:  # noqa: ARG001
    pairs = row["pixels"] or ()
    total = sum(one["count"] for one in pairs)
    true = sorted({one["true"] for one in pairs})
    for c in true:
        own = sum(one["count"] for one in pairs if one["true"] == c)
        said = sum(one["count"] for one in pairs if one["predicted"] == c)
        both = sum(one["count"] for one in pairs if one["true"] == one["predicted"] == c)
        values = [float(np.sqrt(own / total)), float(len(true))]
        yield both / (own + said - both) >= FOUND, int(c), values


def _add_columns(units: Units, columns: Columns) -> None:
    """Add further columns of the data: those with many different numbers become properties."""
    for name in dict.fromkeys(name for row in columns.values() for name in row):
        said = [columns.get(int(k), {}).get(name) for k in units.ids]
        texts = np.array(["" if one is None else str(one) for one in said])
        numbers = _as_numbers(texts)
        if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) >= _NUMBERS_FROM:
            units.properties.append(
                Property(name, f"{{}} with low {name}", f"{{}} with high {name}")
            )
            units.values = np.concatenate([units.values, numbers[:, None]], 1)
            continue
        values, counts = np.unique(texts[texts != ""], return_counts=True)
        common = values[np.argsort(-counts, kind="stable")[:_MOST_VALUES]]
        if len(values) > 1:
            units.categories[name] = np.where(np.isin(texts, common), texts, "")


def _as_numbers(texts: npt.NDArray[np.str_]) -> Numbers | None:
    try:
        return np.array([float(one) if one else np.nan for one in texts], dtype=np.float32)
    except ValueError:
        return None
