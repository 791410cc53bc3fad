"""Search for label issues: inputs whose label is probably wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from cvx_diagnose.analysis.label_issues.label_quality import (
    class_thresholds,
    exceeds_thresholds,
    label_doubt,
    out_of_fold_probabilities,
    softmax,
)
from cvx_diagnose.analysis.labeled_rows import LabeledRows, Numbers, Whole
from cvx_diagnose.run.results import Run

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
        (m, F), of images of the class. All shares are nan if there are fewer than 20.
    """
    if len(reference) < _FEWEST:
        return np.full(len(features), np.nan)
    near = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(reference)
    own = np.sort(near.kneighbors(reference)[0][:, 1:].mean(1))
    distances = near.kneighbors(features, _NEIGHBOURS)[0].mean(1)
    beyond = len(own) - np.searchsorted(own, distances, side="left")
    found: Numbers = (1 + beyond) / (1 + len(own))
    return found


def neighbor_agreement(
    chunks: Iterable[tuple[slice, Numbers]],
    queries: Numbers,
    labels: Whole,
    at: Whole,
) -> Numbers:
    """Return which share of an image's neighbors has its label, in [0, 1].

    A wrong label is alone among images of another class. Where the neighbors have the same label,
    the model confuses two classes, or the classes are named differently: the label by itself is
    not wrong. Neighbors vote as in Zhu, ICML 2022 (arXiv:2110.06283).

    Parameters
    ----------
    chunks
        Features of all images, a part at a time, compared by cosine similarity.
    queries, at
        (m, F) and (m,), features and positions of the images. The ten nearest count, for a smaller
        class as many as it has other images; an image alone in its class has agreement 0.
    labels
        (n,), the given classes.
    """
    nearest = np.full((len(at), _NEIGHBORS_THAT_VOTE), -1)
    likeness = np.full((len(at), _NEIGHBORS_THAT_VOTE), -np.inf, dtype=np.float32)
    queries = _directions(queries)
    for where, features in chunks if len(at) else ():
        others = _directions(features)
        for rows in np.array_split(np.arange(len(at)), 1 + len(at) // _ROWS):
            alike = queries[rows] @ others.T
            # Among equal images any may be the nearest; the image itself is excluded.
            own = np.flatnonzero((at[rows] >= where.start) & (at[rows] < where.stop))
            alike[own, at[rows][own] - where.start] = -np.inf
            numbers = np.broadcast_to(np.arange(where.start, where.stop), alike.shape)
            alike = np.concatenate([likeness[rows], alike], 1)
            numbers = np.concatenate([nearest[rows], numbers], 1)
            best = torch.from_numpy(alike).topk(_NEIGHBORS_THAT_VOTE).indices.numpy()
            likeness[rows] = np.take_along_axis(alike, best, 1)
            nearest[rows] = np.take_along_axis(numbers, best, 1)
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
    if "logits" not in run.schema.names:
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
    suggested = np.zeros(len(labels), dtype=np.int64)
    parts = []
    for where, p in predictions():
        suggested[where] = p.argmax(1)
        rows = np.flatnonzero(exceeds_thresholds(p, labels[where], thresholds))
        p = p[rows]
        parts.append((where.start + rows, p.max(1), label_doubt(p, labels[where][rows])))
    at, probability, doubt = (np.concatenate(one) for one in zip(*parts, strict=True))
    typical = _typicality_of_rows(inputs, at, suggested)
    kept = ~(typical < MIN_TYPICALITY)
    queries = inputs.gather("features", at[kept])
    agreement = neighbor_agreement(inputs.chunks("features"), queries, labels, at[kept])
    kept[kept] = agreement < MIN_AGREEMENT
    order = np.flatnonzero(kept)
    order = order[np.argsort(-doubt[order], kind="stable")]
    return [
        {
            **row,
            "suggested": int(suggested[at[k]]),
            "probability": float(probability[k]),
            "doubt": float(doubt[k]),
            "typicality": None if np.isnan(typical[k]) else float(typical[k]),
        }
        for row, k in zip(inputs.records(at[order], ["id", "path", "label"]), order, strict=True)
    ]


def _own_predictions(inputs: LabeledRows) -> Iterator[tuple[slice, Numbers]]:
    return ((at, softmax(logits)) for at, logits in inputs.chunks("logits"))


def _typicality_of_rows(inputs: LabeledRows, at: Whole, suggested: Whole) -> Numbers:
    """Return `typicality` of some images in their most probable classes; nan where unknown.

    Processes a few classes at a time.
    """
    found = np.zeros(len(at))
    correct = np.flatnonzero(suggested == inputs.labels)
    by_class = correct[np.argsort(suggested[correct], kind="stable")]
    waiting: list[tuple[Whole, Whole]] = []
    classes = np.unique(suggested[at])
    for c in classes:
        members = by_class[slice(*np.searchsorted(suggested[by_class], (c, c + 1)))]
        spread = np.linspace(0, len(members) - 1, min(len(members), _REFERENCE)).astype(int)
        waiting.append((np.flatnonzero(suggested[at] == c), members[spread]))
        if c == classes[-1] or sum(len(a) + len(m) for a, m in waiting) >= _AT_ONCE:
            everyone = np.concatenate([k for a, m in waiting for k in (at[a], m)])
            features = inputs.gather("features", everyone)
            for queries, reference in waiting:
                n, m = len(queries), len(reference)
                found[queries] = typicality(features[:n], features[n : n + m])
                features = features[n + m :]
            waiting = []
    return found
