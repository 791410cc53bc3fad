"""Search for label issues: inputs whose label is probably wrong."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from cvx_diagnose.analysis.label_issues.boxes import find_box_issues
from cvx_diagnose.analysis.label_issues.judge import DOUBTED, judge_labels
from cvx_diagnose.analysis.label_issues.regions import find_region_issues
from cvx_diagnose.analysis.labeled_rows import LabeledRows, Numbers, Whole
from cvx_diagnose.run.results import Run

MIN_TYPICALITY = 0.01
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

    An issue is a label that is probably wrong by `.judge.judge_labels`, of an image that is typical
    of the more probable class (1 % of the correctly predicted images are less so), and whose label
    fewer than half of its neighbors share.

    Parameters
    ----------
    run
        Of a classifier; of a detector see `.boxes.find_box_issues`, of a segmenter
        `.regions.find_region_issues`.
    trained_on
        Whether the model was trained on these labels: then its own predictions don't count, and
        of other tasks nothing can be said.
    """
    names = run.schema.names
    if "logits" not in names:
        if trained_on:
            return []
        if "detections" in names:
            return find_box_issues(run)
        return find_region_issues(run) if "leads" in names else []
    inputs = LabeledRows(run)
    labels = inputs.labels
    judgement = judge_labels(inputs, run.plan.outputs, own=not trained_on)
    if judgement is None:
        return []
    at = np.flatnonzero(judgement.wrong > DOUBTED)
    typical = _typicality_of_rows(inputs, at, judgement.suggested)
    kept = ~(typical < MIN_TYPICALITY)
    queries = inputs.gather("features", at[kept])
    agreement = neighbor_agreement(inputs.chunks("features"), queries, labels, at[kept])
    kept[kept] = agreement < MIN_AGREEMENT
    order = np.flatnonzero(kept)
    order = order[np.argsort(-judgement.wrong[at[order]], kind="stable")]
    return [
        {
            **row,
            "suggested": int(judgement.suggested[at[k]]),
            "probability": float(judgement.probability[at[k]]),
            "doubt": float(judgement.wrong[at[k]]),
            "typicality": None if np.isnan(typical[k]) else float(typical[k]),
        }
        for row, k in zip(inputs.records(at[order], ["id", "path", "label"]), order, strict=True)
    ]


def find_label_conflicts(run: Run) -> list[dict[str, Any]]:
    """Return the files that occur several times with different labels.

    Returns
    -------
    list of dict
        ``ids``, ``paths`` and ``labels`` of the inputs with the same bytes.
    """
    if "logits" not in run.schema.names:
        return []
    inputs = LabeledRows(run)
    files = inputs.column("sha256")
    several: dict[str, list[int]] = {}
    for k, name in enumerate(files):
        several.setdefault(name, []).append(k)
    at = [some for name, some in several.items() if name and len(set(inputs.labels[some])) > 1]
    if not at:
        return []
    columns = ["id", "path", "label"]
    rows = iter(inputs.records(np.array([k for some in at for k in some]), columns))
    groups = [list(islice(rows, len(some))) for some in at]
    return [{f"{name}s": [row[name] for row in group] for name in columns} for group in groups]


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
