"""Halves of a run: one to try a fix on, the other to evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, train_test_split

from cvx_diagnose.analysis.metrics.statistics import BOOTSTRAP_SAMPLES, mcnemar, shuffle_ids
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]
Whole = npt.NDArray[np.int64]

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_FEWEST = 40


@dataclass(frozen=True, eq=False)
class Halves:
    """The labeled inputs of a run whose classes have four or more of them.

    Attributes
    ----------
    ids, positions
        (n,), of the inputs, and their positions among all labeled ones.
    labels, correct
        (n,), classes, and whether the network predicts them.
    features
        (n, F), divided by their standard deviation, `scale`, on the first half.
    train, test
        Positions of the two halves; copies of a file are in one.
    """

    ids: Whole
    positions: Whole
    labels: Whole
    correct: npt.NDArray[np.bool_]
    features: Numbers
    scale: float
    train: Whole
    test: Whole

    @property
    def classes(self) -> Whole:
        """The classes, sorted."""
        return np.unique(self.labels)


def split_halves(run: Run) -> Halves | str:
    """Return the halves of a classifier's run, or why there are none, for people."""
    table = run.table(["id", "sha256", "label", "correct", "features"], status="ok")
    table = table.filter(table["label"].is_valid())
    labels = np.array(table["label"].to_pylist(), dtype=np.int64)
    counts = np.bincount(labels, minlength=1)
    usable = counts[labels] >= 4 if len(labels) else np.zeros(0, dtype=bool)
    classes = np.unique(labels[usable])
    if usable.sum() < _FEWEST or len(classes) < 2:
        return (
            f"It needs {_FEWEST} inputs in two or more classes of four or more, got "
            f"{int(usable.sum())} in {len(classes)}."
        )
    features = np.nan_to_num(run.numbers(table, "features")[usable])
    labels, correct = labels[usable], np.array(table["correct"].to_pylist(), dtype=bool)[usable]
    files = [one or f"input {k}" for k, one in enumerate(table["sha256"].to_pylist())]
    # Copies of one file must not be in both halves.
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    train, test = next(halves.split(labels, labels, np.array(files)[usable]))
    scale = float(features[train].std()) or 1.0
    ids = table["id"].to_numpy().astype(np.int64)[usable]
    at = np.flatnonzero(usable)
    return Halves(ids, at, labels, correct, features / scale, scale, train, test)


def train_head(features: Numbers, labels: npt.NDArray[np.int64]) -> Any:
    """Return a logistic regression; its regularization is chosen on a quarter of the data."""
    counts = np.bincount(labels)
    split = train_test_split(
        np.arange(len(labels)),
        test_size=0.25,
        random_state=0,
        stratify=labels if counts[counts > 0].min() >= 4 else None,
    )
    model = GridSearchCV(LogisticRegression(max_iter=300), {"C": _STRENGTHS}, cv=[split])
    return model.fit(features, labels).best_estimator_


def accuracy_change(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return how much a fix changed the accuracy on the same inputs.

    The interval is of the paired bootstrap (Efron and Tibshirani, 1993): inputs are drawn with
    both their predictions.

    Parameters
    ----------
    before, after
        (n,), whether each prediction was correct.
    """
    difference = after.astype(float) - before.astype(float)
    generator = np.random.default_rng(0)
    # Only the counts of fixed and broken inputs matter; these are drawn directly.
    shares = [(difference == one).mean() for one in (1, -1, 0)]
    drawn = generator.multinomial(len(difference), shares, size=BOOTSTRAP_SAMPLES)
    means = (drawn[:, 0] - drawn[:, 1]) / len(difference)
    fixed, broken = int((difference > 0).sum()), int((difference < 0).sum())
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "change": float(difference.mean()),
        "low": float(np.quantile(means, 0.025)),
        "high": float(np.quantile(means, 0.975)),
        "fixed": fixed,
        "broken": broken,
        "p": mcnemar(fixed, broken),
    }


def in_first_half(ids: Sequence[int], files: Sequence[str | None]) -> npt.NDArray[np.bool_]:
    """Return which inputs are in the first half, in a random order of their files (SHA-256)."""
    first_of: dict[str, int] = {}
    owners = [
        first_of.setdefault(file or f"input {k}", k) for k, file in zip(ids, files, strict=True)
    ]
    ranks = {k: rank for rank, k in enumerate(shuffle_ids([*first_of.values()]))}
    return np.array([ranks[k] % 2 == 0 for k in owners], dtype=bool)


def f1(counts: Numbers) -> float:
    """Return the harmonic mean of precision and recall.

    Parameters
    ----------
    counts
        (n, 3), what is found, wrong and missed in each image.
    """
    found, wrong, missed = counts.sum(0).tolist()
    return float(2 * found / max(1, 2 * found + wrong + missed))


def f1_change(before: Numbers, after: Numbers) -> dict[str, Any]:
    """Return how much a fix changed F1 on the same images; the interval is as of `accuracy_change`.

    An image is ``fixed`` that has fewer wrong and missed entries; ``gain`` is the increase of the
    share of images without any.

    Parameters
    ----------
    before, after
        As of `f1`.
    """
    wrong, now = before[:, 1:].sum(1), after[:, 1:].sum(1)
    fixed, broken = int((now < wrong).sum()), int((now > wrong).sum())
    drawn = np.random.default_rng(0).integers(0, len(before), (BOOTSTRAP_SAMPLES, len(before)))
    changes = [f1(after[at]) - f1(before[at]) for at in drawn]
    return {
        "before": f1(before),
        "after": f1(after),
        "change": f1(after) - f1(before),
        "low": float(np.quantile(changes, 0.025)),
        "high": float(np.quantile(changes, 0.975)),
        "fixed": fixed,
        "broken": broken,
        "p": mcnemar(fixed, broken),
        "gain": float((now == 0).mean()) - float((wrong == 0).mean()),
    }
