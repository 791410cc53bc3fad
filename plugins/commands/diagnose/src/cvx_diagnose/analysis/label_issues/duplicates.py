"""Near duplicates with different labels: resized, compressed or slightly cropped copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cvx_core import InputError
from cvx_diagnose.analysis.labeled_rows import LabeledRows, Numbers
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork

NEAR = 1.0
"""Distance, in medians of the distance of an image to its nearest, below which a pair is compared
by its pixels."""

ALIKE = 0.97
"""Correlation of the gray values of two images above which they are copies."""

MOST = 500
"""Maximum number of pairs that are read again."""

_GRID = 16
_DIMENSIONS = 128
_ROWS = 512
_NEIGHBORS = 3
_MOST_INPUTS = 100_000


def find_near_duplicates(run: Run, work: DiagnosisWork) -> list[dict[str, Any]]:
    """Return pairs of images that are nearly the same and have different labels.

    Pairs are searched by the cosine distance of their features (of more than 128, a random
    projection), and compared by the correlation of their gray values, averaged to 16 x 16. Files of
    the same bytes are left out; see `.search.find_label_conflicts`.

    Parameters
    ----------
    run
        Of a classifier; of more than 100,000 labeled inputs none are searched.
    work
        Of the run, to read the images of some pairs again.

    Returns
    -------
    list of dict
        ``ids``, ``paths`` and ``labels`` of both, and ``likeness``, the correlation; the most
        similar first.
    """
    if "logits" not in run.schema.names:
        return []
    inputs = LabeledRows(run)
    if not 2 < len(inputs.labels) <= _MOST_INPUTS:
        return []
    files = inputs.column("sha256")
    pairs = [(a, b) for a, b in _near_pairs(inputs) if files[a] != files[b] or files[a] is None]
    records = inputs.records(np.array(pairs, dtype=np.int64).reshape(-1), ["id", "path", "label"])
    shades: dict[int, npt.NDArray[np.float64] | None] = {}
    found = []
    for one, other in zip(records[::2], records[1::2], strict=True):
        for row in (one, other):
            if row["id"] not in shades:
                shades[row["id"]] = _shades(run, work, row["id"])
        first, second = shades[one["id"]], shades[other["id"]]
        if first is None or second is None:
            continue
        likeness = float((first * second).sum())
        if likeness >= ALIKE:
            both = {f"{name}s": [one[name], other[name]] for name in ("id", "path", "label")}
            found.append({**both, "likeness": likeness})
    return sorted(found, key=lambda pair: (-pair["likeness"], pair["ids"]))


def _near_pairs(inputs: LabeledRows) -> list[tuple[int, int]]:
    """Return positions of pairs with different labels and near features, the nearest first."""
    features = _directions(inputs)
    labels = torch.from_numpy(inputs.labels)
    near: dict[tuple[int, int], float] = {}
    nearest = torch.zeros(len(features))
    for rows in torch.split(torch.arange(len(features)), _ROWS):
        alike = features[rows] @ features.T
        alike[torch.arange(len(rows)), rows] = -2
        nearest[rows] = 1 - alike.max(1).values
        alike[labels[rows][:, None] == labels[None]] = -2
        best = alike.topk(min(_NEIGHBORS, alike.shape[1]), dim=1)
        for a, values, others in zip(
            rows.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
        ):
            for value, b in zip(values, others, strict=True):
                if value > -2:
                    near[min(a, b), max(a, b)] = 1 - value
    limit = NEAR * float(nearest.median())
    ranked = sorted(((gap, pair) for pair, gap in near.items() if gap <= max(limit, 1e-6)))
    return [pair for _, pair in ranked[:MOST]]


def _directions(inputs: LabeledRows) -> torch.Tensor:
    parts = []
    projection: Numbers | None = None
    for _, values in inputs.chunks("features"):
        values = np.nan_to_num(values)
        if values.shape[1] > _DIMENSIONS:
            if projection is None:
                shape = values.shape[1], _DIMENSIONS
                projection = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            values = values @ projection
        parts.append(torch.from_numpy(values))
    return torch.nn.functional.normalize(torch.cat(parts).float(), dim=1)


def _shades(run: Run, work: DiagnosisWork, number: int) -> npt.NDArray[np.float64] | None:
    """Return the gray values of an image, with mean 0 and norm 1; None if it can't be read."""
    try:
        loaded, _ = work.source.load(run.manifest.find(number))
    except InputError:
        return None
    if isinstance(loaded, torch.Tensor):
        gray = torch.nn.functional.adaptive_avg_pool2d(loaded.float().mean(0)[None], _GRID)[
            0
        ].numpy()
    else:
        small = loaded.pil().convert("L").resize((_GRID, _GRID), Image.Resampling.BOX)
        gray = np.asarray(small)
    centered = gray.astype(np.float64) - gray.mean()
    norm = float(np.linalg.norm(centered))
    # Of an even area any copy is one.
    return centered / norm if norm > 1e-6 else None
