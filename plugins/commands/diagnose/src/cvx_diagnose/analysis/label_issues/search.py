"""Search for label issues: inputs whose label is probably wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from cvx_diagnose.analysis.label_issues.label_quality import (
    class_thresholds,
    exceeds_thresholds,
    label_doubt,
    out_of_fold_probabilities,
    softmax,
)
from cvx_diagnose.analysis.labeled_rows import LabeledRows
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]

MIN_TYPICALITY = 0.05
"""Share of a class's correct images that may lie further out than one misclassified as it."""

MIN_AGREEMENT = 0.5
"""Share of an image's neighbors with its label above which the label is no issue."""

_NEIGHBOURS = 5
_NEIGHBORS_THAT_VOTE = 10
_FEWEST = 20
"""Minimum number of correct images of a class to judge typicality."""

_REFERENCE = 2000
"""Maximum number of correct images of a class that others are compared with."""

_AT_ONCE = 20_000
"""Maximum number of images whose features are in memory."""

_ROWS = 1024
"""Images whose neighbors are searched at once."""


def typicality(features: Numbers, reference: Numbers) -> Numbers:
    """Return which share of reference images is as far from the others as each image, in (0, 1].

    An image whose label is wrong looks like the other images of its true class. One that only
    contains something which the model takes for that class does not.

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


def neighbor_agreement(
    features: Numbers, labels: npt.NDArray[np.int64], at: npt.NDArray[np.int64]
) -> Numbers:
    """Return which share of an image's neighbors has its label, in [0, 1].

    A wrong label is alone among images of another class. Where the neighbors have the same label,
    the model confuses two classes, or the classes are named differently: the label by itself is
    not wrong. Neighbors vote as in Zhu, ICML 2022 (arXiv:2110.06283).

    Parameters
    ----------
    features
        (n, F), of all images, compared by cosine similarity.
    labels
        (n,), the given classes.
    at
        (m,), positions of the images. The ten nearest count, for a smaller class as many as it
        has other images; an image alone in its class has agreement 0.
    """
    queries = features[at]
    return _neighbor_agreement([(slice(0, len(features)), features)], queries, labels, at)


def _neighbor_agreement(
    chunks: Iterable[tuple[slice, Numbers]],
    queries: Numbers,
    labels: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
) -> Numbers:
    """Return `neighbor_agreement` with the features of all images a part at a time."""
    nearest = np.full((len(at), _NEIGHBORS_THAT_VOTE), -1)
    likeness = np.full((len(at), _NEIGHBORS_THAT_VOTE), -np.inf, dtype=np.float32)
    queries = _directions(queries)
    for where, features in chunks if len(at) else ():
        others = _directions(features)
        for rows in np.array_split(np.arange(len(at)), 1 + len(at) // _ROWS):
            alike = queries[rows] @ others.T
            # Among equal images any may be the nearest; the image itself is excluded.
            own = (at[rows] >= where.start) & (at[rows] < where.stop)
            alike[np.flatnonzero(own), at[rows][own] - where.start] = -np.inf
            alike = np.concatenate([likeness[rows], alike], 1)
            numbers = np.arange(where.start, where.stop)
            everyone = np.concatenate(
                [nearest[rows], np.broadcast_to(numbers, (len(rows), len(numbers)))], 1
            )
            if alike.shape[1] > _NEIGHBORS_THAT_VOTE:
                best = np.argpartition(alike, -_NEIGHBORS_THAT_VOTE, axis=1)[
                    :, -_NEIGHBORS_THAT_VOTE:
                ]
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


def find_label_issues(run: Run, *, trained_on: bool = False) -> list[dict[str, Any]]:
    """Return the label issues of a run, the most doubtful first.

    An issue is a label that confident learning flags, of an image that is typical of the more
    probable class (5 % of the model's correct images are less so), and whose label fewer than half
    of its neighbors share.

    Parameters
    ----------
    run
        Of a classifier.
    trained_on
        Whether the model was trained on these labels: then last layers trained out of fold on the
        features judge them, otherwise the model itself.
    """
    if run.plan.task != "classification":
        return []
    classes = run.plan.outputs
    inputs = LabeledRows(run)
    labels = inputs.labels
    if not len(labels):
        return []
    predictions = partial(_own_predictions, inputs)
    if trained_on:
        judged = out_of_fold_probabilities(
            inputs.gather("features", np.arange(len(labels))), labels, classes
        )
        predictions = partial(iter, [(slice(0, len(labels)), judged)])
    # Two passes over the predictions: the thresholds are known after the first.
    given = np.concatenate([p[np.arange(len(p)), labels[at]] for at, p in predictions()])
    thresholds = class_thresholds(given, labels, classes)
    suggested, found = np.zeros(len(labels), dtype=np.int64), []
    for at, p in predictions():
        suggested[at] = p.argmax(1)
        flagged = np.flatnonzero(exceeds_thresholds(p, labels[at], thresholds))
        doubts = label_doubt(p[flagged], labels[at][flagged])
        found += [
            {
                "at": at.start + i,
                "probability": float(p[i, suggested[at.start + i]]),
                "doubt": float(d),
            }
            for i, d in zip(flagged.tolist(), doubts, strict=True)
        ]
    typical = _typicality_of_rows(
        inputs, np.array([one["at"] for one in found], dtype=np.int64), suggested
    )
    candidates = [
        {**one, "typicality": None if np.isnan(share) else float(share)}
        for one, share in zip(found, typical, strict=True)
        if not share < MIN_TYPICALITY
    ]
    queries = np.array([one["at"] for one in candidates], dtype=np.int64)
    shares = _neighbor_agreement(
        inputs.chunks("features"), inputs.gather("features", queries), labels, queries
    )
    issues = [one for one, share in zip(candidates, shares, strict=True) if share < MIN_AGREEMENT]
    issues.sort(key=lambda one: -one["doubt"])
    positions = np.array([one.pop("at") for one in issues], dtype=np.int64)
    rows = inputs.records(positions, ["id", "path", "label"])
    return [
        {**row, "suggested": int(suggested[position]), **one}
        for row, position, one in zip(rows, positions, issues, strict=True)
    ]


def _own_predictions(inputs: LabeledRows) -> Iterator[tuple[slice, Numbers]]:
    return ((at, softmax(logits)) for at, logits in inputs.chunks("logits"))


def _typicality_of_rows(
    inputs: LabeledRows, at: npt.NDArray[np.int64], suggested: npt.NDArray[np.int64]
) -> Numbers:
    """Return `typicality` of some images in their most probable classes; nan where unknown.

    Processes a few classes at a time.
    """
    found = np.zeros(len(at))
    correct = np.flatnonzero(suggested == inputs.labels)
    by_class = correct[np.argsort(suggested[correct], kind="stable")]
    waiting: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    classes = np.unique(suggested[at])
    for c in classes:
        members = by_class[slice(*np.searchsorted(suggested[by_class], (c, c + 1)))]
        waiting.append((np.flatnonzero(suggested[at] == c), members[_spread(len(members))]))
        if c == classes[-1] or sum(len(a) + len(m) for a, m in waiting) >= _AT_ONCE:
            everyone = np.concatenate([k for a, m in waiting for k in (at[a], m)])
            features = inputs.gather("features", everyone)
            for queries, reference in waiting:
                n, m = len(queries), len(reference)
                typical = typicality(features[:n], features[n : n + m])
                found[queries] = typical if m >= _FEWEST else np.nan
                features = features[n + m :]
            waiting = []
    return found


def _spread(count: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, _REFERENCE)).astype(np.int64)
