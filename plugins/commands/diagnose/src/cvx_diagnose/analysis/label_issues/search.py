"""Suspected label errors: inputs whose label is more likely wrong than the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from cvx_diagnose.analysis.label_issues.confident_learning import (
    beyond,
    doubt,
    out_of_fold,
    softmax,
    thresholds_of,
)
from cvx_diagnose.analysis.labeled_rows import Labelled
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]

TYPICAL = 0.05
"""Of 1, how many of the right images of a class lie further out than an image that is still taken
for one of them."""

COMPANY = 0.5
"""Share of an image's neighbours with its label from which on the label is not suspected."""

_NEIGHBOURS = 5
_COMPANIONS = 10
_FEWEST = 20
"""Right images of a class from which it is known what they are like."""

_REFERENCE = 2000
"""Right images of a class that others are compared with, spread over the run."""

_AT_ONCE = 20_000
"""Images whose features are held, and"""

_ROWS = 1024
"""of which neighbours are looked for at once."""


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
    asked = features[at]
    return _company([(slice(0, len(features)), features)], asked, labels, at)


def _company(
    chunks: Iterable[tuple[slice, Numbers]],
    asked: Numbers,
    labels: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
) -> Numbers:
    """Return `company` with the features of all images a part at a time."""
    nearest = np.full((len(at), _COMPANIONS), -1)
    likeness = np.full((len(at), _COMPANIONS), -np.inf, dtype=np.float32)
    asked = _directions(asked)
    for where, features in chunks if len(at) else ():
        others = _directions(features)
        for rows in np.array_split(np.arange(len(at)), 1 + len(at) // _ROWS):
            alike = asked[rows] @ others.T
            # Among images that are equal any may be the nearest, and the image itself is not one.
            own = (at[rows] >= where.start) & (at[rows] < where.stop)
            alike[np.flatnonzero(own), at[rows][own] - where.start] = -np.inf
            alike = np.concatenate([likeness[rows], alike], 1)
            numbers = np.arange(where.start, where.stop)
            everyone = np.concatenate(
                [nearest[rows], np.broadcast_to(numbers, (len(rows), len(numbers)))], 1
            )
            if alike.shape[1] > _COMPANIONS:
                best = np.argpartition(alike, -_COMPANIONS, axis=1)[:, -_COMPANIONS:]
                alike, everyone = (np.take_along_axis(x, best, 1) for x in (alike, everyone))
            best = np.argsort(-alike, axis=1, kind="stable")
            likeness[rows] = np.take_along_axis(alike, best, 1)
            nearest[rows] = np.take_along_axis(everyone, best, 1)
    shares = np.zeros(len(at))
    counts = np.bincount(labels)
    for row, i in enumerate(at):
        near = nearest[row][: counts[labels[i]] - 1]
        near = near[near >= 0]
        if len(near):
            shares[row] = float((labels[near] == labels[i]).mean())
    return shares


def _directions(features: Numbers) -> Numbers:
    found: Numbers = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return found


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
    classes = run.plan.outputs
    inputs = Labelled(run)
    labels = inputs.labels
    if not len(labels):
        return []
    answers = partial(_own_answers, inputs)
    if trained_on:
        judged = out_of_fold(inputs.gathered("features", np.arange(len(labels))), labels, classes)
        answers = partial(iter, [(slice(0, len(labels)), judged)])
    # Twice over the answers: what a class's own examples get on the mean is known after the first.
    given = np.concatenate([p[np.arange(len(p)), labels[at]] for at, p in answers()])
    thresholds = thresholds_of(given, labels, classes)
    likely, found = np.zeros(len(labels), dtype=np.int64), []
    for at, p in answers():
        likely[at] = p.argmax(1)
        flagged = np.flatnonzero(beyond(p, labels[at], thresholds))
        doubts = doubt(p[flagged], labels[at][flagged])
        found += [
            {
                "at": at.start + i,
                "probability": float(p[i, likely[at.start + i]]),
                "doubt": float(d),
            }
            for i, d in zip(flagged.tolist(), doubts, strict=True)
        ]
    typical = _typicalities(inputs, np.array([one["at"] for one in found], dtype=np.int64), likely)
    candidates = [
        {**one, "typicality": None if np.isnan(share) else float(share)}
        for one, share in zip(found, typical, strict=True)
        if not share < TYPICAL
    ]
    asked = np.array([one["at"] for one in candidates], dtype=np.int64)
    shares = _company(inputs.numbers("features"), inputs.gathered("features", asked), labels, asked)
    alone = [one for one, share in zip(candidates, shares, strict=True) if share < COMPANY]
    alone.sort(key=lambda one: -one["doubt"])
    positions = np.array([one.pop("at") for one in alone], dtype=np.int64)
    rows = inputs.described(positions, ["id", "path", "label"])
    return [
        {**row, "likely": int(likely[position]), **one}
        for row, position, one in zip(rows, positions, alone, strict=True)
    ]


def _own_answers(inputs: Labelled) -> Iterator[tuple[slice, Numbers]]:
    return ((at, softmax(logits)) for at, logits in inputs.numbers("logits"))


def _typicalities(
    inputs: Labelled, at: npt.NDArray[np.int64], likely: npt.NDArray[np.int64]
) -> Numbers:
    """Return `typicality` of some images in the classes that are likely; nan where it isn't known.

    Of few classes at a time.
    """
    found = np.zeros(len(at))
    right = np.flatnonzero(likely == inputs.labels)
    by_class = right[np.argsort(likely[right], kind="stable")]
    waiting: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    classes = np.unique(likely[at])
    for c in classes:
        members = by_class[slice(*np.searchsorted(likely[by_class], (c, c + 1)))]
        waiting.append((np.flatnonzero(likely[at] == c), members[_spread(len(members))]))
        if c == classes[-1] or sum(len(a) + len(m) for a, m in waiting) >= _AT_ONCE:
            everyone = np.concatenate([k for a, m in waiting for k in (at[a], m)])
            features = inputs.gathered("features", everyone)
            for asked, reference in waiting:
                n, m = len(asked), len(reference)
                typical = typicality(features[:n], features[n : n + m])
                found[asked] = typical if m >= _FEWEST else np.nan
                features = features[n + m :]
            waiting = []
    return found


def _spread(count: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, _REFERENCE)).astype(np.int64)
