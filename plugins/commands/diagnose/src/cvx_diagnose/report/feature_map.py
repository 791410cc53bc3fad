"""Map of the features: two principal components of each input, for the page of a run."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.decomposition import PCA

from cvx_diagnose.run.results import Run

_FIT, _CORRECT = 5_000, 3_000
"""Maximum numbers of inputs that the components are fitted to, and of correct ones drawn."""
_END = 1000
_BEYOND = 0.5

Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureMap:
    """Positions of inputs on a map, integers from 0 to 1,000.

    Attributes
    ----------
    errors
        (x, y) by id of an error.
    correct
        (x, y) of a sample of the correct predictions.
    explained
        Share of the variance of the features that the map shows.
    """

    errors: dict[int, tuple[int, int]]
    correct: list[tuple[int, int]]
    explained: float


def find_feature_map(run: Run, errors: Container[int]) -> FeatureMap | None:
    """Return the map of a run with the positions of some errors; None without two components.

    The features are standardized, as for label issues, and reduced by principal component
    analysis. What lies far outside is drawn at the border.
    """
    step = max(1, len(run.manifest) // _FIT)
    sample, seen = [], 0
    for block in run.blocks(["status", "features"]):
        sample.append(_features(run, block.slice((-seen) % step))[::step])
        seen += len(block)
    known = np.concatenate(sample) if sample else np.empty((0, 0), np.float32)
    known = known[np.isfinite(known).all(axis=1)]
    if min(known.shape) < 3:
        return None
    mean, spread = known.mean(0), known.std(0)
    spread[spread < 1e-6] = 1.0
    pca = PCA(2, random_state=0).fit((known - mean) / spread)
    drawn = max(1, len(run.manifest) // _CORRECT)
    ids, wrong, points = [], [], []
    for block in run.blocks(["id", "status", "correct", "features"]):
        values = _features(run, block)
        number, correct = block["id"].to_numpy(), np.array(block["correct"].to_pylist())
        wanted = np.array([one in errors for one in number.tolist()], dtype=bool)
        kept = (wanted | ((correct == True) & (number % drawn == 0))) & np.isfinite(values).all(1)  # noqa: E712 - also None
        if kept.any():
            ids.append(number[kept])
            wrong.append(wanted[kept])
            points.append(pca.transform((values[kept] - mean) / spread))
    if not points:
        return None
    at = _scaled(np.concatenate(points)).tolist()
    several = list(zip(np.concatenate(ids).tolist(), np.concatenate(wrong), at, strict=True))
    return FeatureMap(
        {number: (x, y) for number, is_error, (x, y) in several if is_error},
        [(x, y) for _, is_error, (x, y) in several if not is_error],
        float(pca.explained_variance_ratio_.sum()),
    )


def _features(run: Run, block: pa.Table) -> Points:
    """Return the features (n, F) of rows; nan where the model failed."""
    found = run.numbers(block, "features")
    return found.reshape(len(found), -1)


def _scaled(points: Points) -> npt.NDArray[np.int64]:
    """Return points on a map whose ends are near the outer percentiles of each axis."""
    low, high = np.percentile(points, (1, 99), axis=0)
    margin = np.maximum(high - low, 1e-9) * _BEYOND / 10
    share = (points - low + margin) / (high - low + 2 * margin + 1e-12)
    found: npt.NDArray[np.int64] = np.round(share.clip(0, 1) * _END).astype(np.int64)
    return found
