"""Quality of labels by confident learning on predicted probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from cvx_core import UsageError

Numbers = npt.NDArray[Any]

FOLDS = 5

_KNOWN = 5
"""Minimum number of examples of a class for a threshold of its own."""


def class_thresholds(given: Numbers, labels: npt.NDArray[np.int64], classes: int) -> Numbers:
    """Return the threshold of each class, (C,), for confident learning (Northcutt, JAIR 2021).

    It is the mean probability of the class over its own examples; with fewer than five of these,
    the mean over the examples of all classes.

    Parameters
    ----------
    given, labels
        (n,), the probabilities of the given classes, and these.
    classes
        Number of classes.
    """
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=given, minlength=classes)
    found: Numbers = np.where(counts < _KNOWN, given.mean(), sums / np.maximum(counts, 1))
    # A class without examples can't be reached.
    found[counts == 0] = np.inf
    return found


def exceeds_thresholds(
    probabilities: Numbers, labels: npt.NDArray[np.int64], thresholds: Numbers
) -> npt.NDArray[np.bool_]:
    """Return which labels are issues, (n,).

    Of these the most probable class among those that reach their thresholds is another one, and
    the most probable class of all is not the given one.

    Parameters
    ----------
    probabilities
        (n, C), out of sample: of a model that was not trained on these labels.
    labels
        (n,), the given classes.
    thresholds
        (C,), of `class_thresholds`.
    """
    reached = np.where(probabilities >= thresholds - 1e-9, probabilities, -1.0)
    issues: npt.NDArray[np.bool_] = (
        (reached.argmax(1) != labels) & (reached.max(1) >= 0) & (probabilities.argmax(1) != labels)
    )
    return issues


def label_doubt(probabilities: Numbers, labels: npt.NDArray[np.int64]) -> Numbers:
    """Return the doubt about labels, in [0, 1]: the normalized margin of Northcutt (JAIR 2021).

    Half of one plus the probability of the most probable other class minus the given one's.
    """
    at = np.arange(len(labels))
    others = probabilities.copy()
    others[at, labels] = -1.0
    found: Numbers = (1 + others.max(1) - probabilities[at, labels]) / 2
    return found


def out_of_fold_probabilities(
    features: Numbers, labels: npt.NDArray[np.int64], classes: int
) -> Numbers:
    """Return probabilities (n, C) by last layers that were not trained on the label they judge.

    A model has memorized the labels it was trained on, so that its own probabilities say little
    about them. Logistic regressions on its features, each trained on four fifths, predict the rest.

    Parameters
    ----------
    features
        (n, F).
    labels
        (n,). Labels of classes with fewer than five examples are never issues.
    classes
        Number of classes.

    Raises
    ------
    UsageError
        If fewer than two classes have five examples.
    """
    counts = np.bincount(labels, minlength=classes)
    usable = np.flatnonzero(counts >= FOLDS)
    if len(usable) < 2:
        raise UsageError(
            f"Finding label issues needs two classes with {FOLDS} examples, got {len(usable)}.",
            "Use more data.",
        )
    known = np.isin(labels, usable)
    found = np.zeros((len(labels), classes))
    # Labels that can't be judged stay.
    found[np.flatnonzero(~known), labels[~known]] = 1.0
    features, labels = features[known], labels[known]
    found[np.ix_(np.flatnonzero(known), usable)] = cross_val_predict(
        LogisticRegression(max_iter=200),
        features / (features.std() or 1.0),
        labels,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )
    return found


def softmax(logits: Numbers) -> Numbers:
    """Return probabilities (n, C) in float64."""
    limit = float(np.finfo(np.float16).max)
    logits = np.nan_to_num(logits.astype(np.float64), posinf=limit, neginf=-limit)
    found: Numbers = scipy.special.softmax(logits, axis=1)
    return found
