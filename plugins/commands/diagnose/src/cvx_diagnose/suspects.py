"""Suspected label errors: inputs whose label is more likely wrong than the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors

from cvx_core import UsageError
from cvx_diagnose.run import Run

Numbers = npt.NDArray[Any]

FOLDS = 5

TYPICAL = 0.05
"""Of 1, how many of the right images of a class lie further out than an image that is still taken
for one of them."""

COMPANY = 0.5
"""Share of an image's neighbours with its label from which on the label is not suspected."""

_KNOWN = 5
"""Examples of a class from which their mean probability says something of the class."""

_NEIGHBOURS = 5
_COMPANIONS = 10
_FEWEST = 20
"""Right images of a class from which it is known what they are like."""


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
    classes = probabilities.shape[1]
    given = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=given, minlength=classes)
    thresholds = np.where(counts < _KNOWN, given.mean(), sums / np.maximum(counts, 1))
    # What no example is labelled as can't be reached.
    thresholds[counts == 0] = np.inf
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


def typicality(features: Numbers, reference: Numbers) -> Numbers:
    """Return which share of reference images is as far from the others as each image is, in (0, 1].

    An image whose label is wrong looks like the other images of its true class. One that only has
    something in it that the model takes for that class does not.

    Parameters
    ----------
    features
        (n, F).
    reference
        (m, F), of images of the class. All shares are 1 if there are fewer than 20.
    """
    if len(reference) < _FEWEST:
        return np.ones(len(features))
    near = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(reference)
    own = np.sort(near.kneighbors(reference)[0][:, 1:].mean(1))
    distances = near.kneighbors(features, _NEIGHBOURS)[0].mean(1)
    beyond = len(own) - np.searchsorted(own, distances, side="left")
    found: Numbers = (1 + beyond) / (1 + len(own))
    return found


def company(features: Numbers, labels: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> Numbers:
    """Return which share of an image's neighbours has its label, in [0, 1].

    A wrong label is one of its own among images of another class. Where the images around are
    labelled alike, it is the model that takes one class for another, or the classes are named
    otherwise: no label is wrong by itself. Neighbours vote as in Zhu, ICML 2022
    (arXiv:2110.06283).

    Parameters
    ----------
    features
        (n, F), of all images. The angle between them counts.
    labels
        (n,), the given classes.
    at
        (m,): which images are asked about. The nearest ten count, of a class of fewer as many as
        it has others; an image alone in its class has no company.
    """
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    most = min(_COMPANIONS, len(features) - 1)
    if not most or not len(at):
        return np.zeros(len(at))
    near = NearestNeighbors(n_neighbors=most + 1).fit(directions).kneighbors(directions[at])[1]
    shares = np.zeros(len(at))
    for row, i in enumerate(at):
        counted = min(most, int((labels == labels[i]).sum()) - 1)
        if counted:
            # Among images that are equal any may be the nearest, and the image itself is not one.
            others = [j for j in near[row] if j != i][:counted]
            shares[row] = float((labels[others] == labels[i]).mean())
    return shares


def find_suspects(run: Run, *, trained_on: bool = False) -> list[dict[str, Any]]:
    """Return the labels of a run that are suspected, the most doubtful first.

    Suspected is a label that confident learning suspects, of an image that is typical of the
    likelier class (5 % of the images that the model gets right are less so) and has fewer than half
    of its neighbours in common with its label.

    Parameters
    ----------
    run
        Of a classifier.
    trained_on
        Whether the model was trained on these labels: then last layers trained out of fold on the
        features judge them, and else the model itself.
    """
    if run.plan.task != "classification":
        return []
    table = run.table(["id", "path", "label", "logits", "features"], status="ok")
    table = table.filter(table["label"].is_valid())
    if not len(table):
        return []
    labels = np.array(table["label"].to_pylist(), dtype=np.int64)
    features = run.numbers(table, "features")
    if trained_on:
        p = out_of_fold(features, labels, run.plan.outputs)
    else:
        p = softmax(run.numbers(table, "logits"))
    flagged, doubts, likely = suspicious(p, labels), doubt(p, labels), p.argmax(1)
    typical = np.zeros(len(labels))
    for c in np.unique(likely[flagged]):
        at = flagged & (likely == c)
        typical[at] = typicality(features[at], features[(likely == c) & (labels == c)])
    candidates = np.flatnonzero(typical >= TYPICAL)
    alone = candidates[company(features, labels, candidates) < COMPANY]
    order = alone[np.argsort(-doubts[alone], kind="stable")]
    rows = table.select(["id", "path", "label"]).to_pylist()
    return [
        {
            **rows[i],
            "likely": int(likely[i]),
            "probability": float(p[i, likely[i]]),
            "doubt": float(doubts[i]),
            "typicality": float(typical[i]),
        }
        for i in order
    ]


def softmax(logits: Numbers) -> Numbers:
    """Return probabilities (n, C) in float64."""
    limit = float(np.finfo(np.float16).max)
    logits = np.nan_to_num(logits.astype(np.float64), posinf=limit, neginf=-limit)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    found: Numbers = raised / raised.sum(1, keepdims=True)
    return found
