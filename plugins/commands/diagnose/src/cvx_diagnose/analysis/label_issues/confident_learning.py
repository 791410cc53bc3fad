"""Confident learning: which labels a model's probabilities speak against."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from cvx_core import UsageError

Numbers = npt.NDArray[Any]

FOLDS = 5

_KNOWN = 5
"""Examples of a class from which their mean probability says something of the class."""


def suspicious(probabilities: Numbers, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whose label is suspected, as confident learning does (Northcutt, JAIR 2021).

    A class's threshold is the mean probability that its own examples give it; with fewer than five
    of these it says little, and the mean over the examples of all classes is taken. A label is
    suspected if the likeliest of the classes that reach their thresholds is another one, and the
    likeliest of all is not the given one.

    Parameters
    ----------
    probabilities
        (n, C), out of sample: of a model that was not trained on these labels.
    labels
        (n,), the given classes.
    """
    given = probabilities[np.arange(len(labels)), labels]
    return beyond(probabilities, labels, thresholds_of(given, labels, probabilities.shape[1]))


def thresholds_of(given: Numbers, labels: npt.NDArray[np.int64], classes: int) -> Numbers:
    """Return what probability each class has to reach, (C,).

    Parameters
    ----------
    given, labels
        (n,), the probabilities of the given classes, and these.
    classes
        How many there are.
    """
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=given, minlength=classes)
    found: Numbers = np.where(counts < _KNOWN, given.mean(), sums / np.maximum(counts, 1))
    # What no example is labelled as can't be reached.
    found[counts == 0] = np.inf
    return found


def beyond(
    probabilities: Numbers, labels: npt.NDArray[np.int64], thresholds: Numbers
) -> npt.NDArray[np.bool_]:
    """Return whose label is suspected, (n,), with the thresholds (C,) of `thresholds_of`."""
    reached = np.where(probabilities >= thresholds - 1e-9, probabilities, -1.0)
    suspected: npt.NDArray[np.bool_] = (
        (reached.argmax(1) != labels) & (reached.max(1) >= 0) & (probabilities.argmax(1) != labels)
    )
    return suspected


def doubt(probabilities: Numbers, labels: npt.NDArray[np.int64]) -> Numbers:
    """Return how doubtful labels are, in [0, 1]: the normalised margin of Northcutt (JAIR 2021).

    Half of one plus the probability of the likeliest other class less the given one's.

    Parameters
    ----------
    probabilities, labels
        As of `suspicious`.
    """
    at = np.arange(len(labels))
    others = probabilities.copy()
    others[at, labels] = -1.0
    found: Numbers = (1 + others.max(1) - probabilities[at, labels]) / 2
    return found


def out_of_fold(features: Numbers, labels: npt.NDArray[np.int64], classes: int) -> Numbers:
    """Return probabilities (n, C) by last layers that did not see the label that they judge.

    A model knows the labels it was trained on by heart, so that its own probabilities say little
    of them. Here logistic regressions on its features, each trained on four fifths, answer for
    the rest.

    Parameters
    ----------
    features
        (n, F).
    labels
        (n,). A class with fewer than five examples is never suspected.
    classes
        How many there are.

    Raises
    ------
    UsageError
        If fewer than two classes have five examples.
    """
    counts = np.bincount(labels, minlength=classes)
    usable = np.flatnonzero(counts >= FOLDS)
    if len(usable) < 2:
        raise UsageError(
            f"Label errors can't be looked for: {len(usable)} classes have {FOLDS} examples.",
            "Give more data.",
        )
    known = np.isin(labels, usable)
    found = np.zeros((len(labels), classes))
    # What can't be judged keeps its label.
    found[np.flatnonzero(~known), labels[~known]] = 1.0
    at = np.flatnonzero(known)
    scale = features[at].std() or 1.0
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(features[at], labels[at]):
        model = LogisticRegression(max_iter=200)
        model.fit(features[at[train]] / scale, labels[at[train]])
        found[np.ix_(at[test], model.classes_)] = model.predict_proba(features[at[test]] / scale)
    return found


def softmax(logits: Numbers) -> Numbers:
    """Return probabilities (n, C) in float64."""
    limit = float(np.finfo(np.float16).max)
    logits = np.nan_to_num(logits.astype(np.float64), posinf=limit, neginf=-limit)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    found: Numbers = raised / raised.sum(1, keepdims=True)
    return found
