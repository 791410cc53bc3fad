"""Judge of labels: out-of-fold predictions of a head that never saw the label it judges."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cvx_diagnose.analysis.label_issues.label_quality import softmax, wrong_label_posterior
from cvx_diagnose.analysis.labeled_rows import LabeledRows, Numbers, Whole

FEWEST = 10
"""Images of a class below which none of its labels is doubted, and none is suggested."""

FOLDS = 5
_ROUNDS = 2
"""How often heads are trained again without the labels that were doubted before."""

DOUBTED = 0.25
"""Probability that a label is wrong above which it is doubted."""

_WEIGHT = 0.1
"""Weight of the network's own log-probabilities beside those of the head."""

_DIMENSIONS = 256
_MOST_TRAINED = 20_000
_SAMPLE = 10_000
_LARGE = 1e9
"""Product of images, features and classes above which the head is a discriminant analysis."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """Judgement of labels.

    Attributes
    ----------
    suggested, probability
        (n,), the most probable class of each image, and its probability.
    wrong
        (n,), the probability that the label is wrong; 0 where it can't be judged.
    """

    suggested: Whole
    probability: Numbers
    wrong: Numbers


def judge_labels(inputs: LabeledRows, classes: int, *, own: bool = True) -> Judgement | None:
    """Return what heads trained out of fold say of labels; None if there are too few.

    Linear heads on the features, each trained on four fifths, predict the rest. Training is
    repeated without the doubted labels. A label is wrong with the probability that follows from
    that of its class for the image, and from the share of wrong labels, which is estimated.

    Parameters
    ----------
    inputs
        Of a run of a classifier.
    classes
        Number of classes.
    own
        Whether the network's own predictions count too: not if it was trained on these labels.
    """
    labels = inputs.labels
    judged = np.bincount(labels, minlength=classes)[labels] >= FEWEST
    kinds = np.unique(labels[judged])
    if len(kinds) < 2:
        return None
    features = _reduced(inputs)
    folds = assign_folds(inputs.column("sha256"), labels)
    temperature = _temperature(inputs, kinds, judged) if own else None
    doubted = np.zeros(len(labels), dtype=bool)
    suggested, likely, wrong = labels.copy(), np.ones(len(labels)), np.zeros(len(labels))
    for _ in range(_ROUNDS + 1):
        kept = judged & ~doubted
        if any(len(np.unique(labels[kept & (folds != fold)])) < 2 for fold in range(FOLDS)):
            break  # too few labels are left to train on
        heads = [_trained(features, labels, kept & (folds != fold)) for fold in range(FOLDS)]
        suggested, likely = labels.copy(), np.ones(len(labels))
        given = np.ones(len(labels))
        for where, p in _predictions(inputs, features, folds, heads, kinds, temperature):
            known = judged[where]
            at = np.searchsorted(kinds, labels[where][known])
            given[where][known] = p[known, at]
            likely[where], suggested[where] = p.max(1), kinds[p.argmax(1)]
        wrong = np.zeros(len(labels))
        wrong[judged] = wrong_label_posterior(given[judged], len(kinds))
        doubted = (wrong > DOUBTED) & (suggested != labels)
    return Judgement(suggested, likely, np.where(suggested != labels, wrong, 0.0))


def assign_folds(files: Sequence[str | None], labels: Whole) -> Whole:
    """Return the fold of each image: classes are spread evenly, and copies of a file together.

    It depends on the files alone, not on their order.
    """
    folds: dict[str, int] = {}
    counts: dict[int, int] = {}
    names = [one or f"input {k}" for k, one in enumerate(files)]
    order = sorted(range(len(names)), key=lambda k: hashlib.blake2b(names[k].encode()).digest())
    for k in order:
        if names[k] not in folds:
            label = int(labels[k])
            folds[names[k]] = counts.get(label, 0) % FOLDS
            counts[label] = counts.get(label, 0) + 1
    return np.array([folds[name] for name in names], dtype=np.int64)


def _reduced(inputs: LabeledRows) -> Numbers:
    """Return features (n, F), standardized; of many their principal components."""
    count = len(inputs.labels)
    sample = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int))
    first = _finite(inputs.gather("features", sample))
    mean, spread = first.mean(0), first.std(0)
    spread[spread < 1e-6] = 1.0
    parts = min(_DIMENSIONS, len(first) - 1)
    components = None
    if first.shape[1] > parts:
        components = PCA(parts, random_state=0).fit((first - mean) / spread)
    found = np.zeros((count, parts if components else first.shape[1]), dtype=np.float32)
    for where, features in inputs.chunks("features"):
        scaled = (_finite(features) - mean) / spread
        found[where] = components.transform(scaled) if components else scaled
    return found


def _finite(features: Numbers) -> Numbers:
    limit = float(np.finfo(np.float16).max)
    return np.nan_to_num(features, nan=0.0, posinf=limit, neginf=-limit)


def _trained(features: Numbers, labels: Whole, train: npt.NDArray[np.bool_]) -> Any:
    at = np.flatnonzero(train)
    if len(at) > _MOST_TRAINED:
        # Every class keeps some: rows are taken at equal distances in the order of classes.
        at = at[np.argsort(labels[at], kind="stable")]
        at = at[np.linspace(0, len(at) - 1, _MOST_TRAINED).astype(int)]
    size = len(at) * features.shape[1] * len(np.unique(labels[at]))
    head = LogisticRegression(max_iter=500)
    if size > _LARGE:
        head = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    with warnings.catch_warnings():
        # A head that has not quite converged judges as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return head.fit(features[at], labels[at])


def _predictions(
    inputs: LabeledRows,
    features: Numbers,
    folds: Whole,
    heads: Sequence[Any],
    kinds: Whole,
    temperature: float | None,
) -> Iterator[tuple[slice, Numbers]]:
    """Yield probabilities (m, K) among the classes that are judged, a part at a time."""
    for where, logits in inputs.chunks("logits"):
        p = np.zeros((len(logits), len(kinds)))
        for fold, head in enumerate(heads):
            rows = np.flatnonzero(folds[where] == fold)
            if len(rows):
                columns = np.searchsorted(kinds, head.classes_)
                p[np.ix_(rows, columns)] = head.predict_proba(features[where][rows])
        if temperature is not None:
            own = softmax(logits[:, kinds] / temperature)
            p = np.exp((1 - _WEIGHT) * np.log(p + 1e-12) + _WEIGHT * np.log(own + 1e-12))
            p /= p.sum(1, keepdims=True)
        yield where, p


def _temperature(inputs: LabeledRows, kinds: Whole, judged: npt.NDArray[np.bool_]) -> float:
    """Return the temperature at which the network's predictions fit the labels best."""
    at = np.flatnonzero(judged)
    at = at[np.unique(np.linspace(0, len(at) - 1, min(len(at), _SAMPLE)).astype(int))]
    logits = inputs.gather("logits", at)[:, kinds]
    given = np.searchsorted(kinds, inputs.labels[at])

    def loss(exponent: float) -> float:
        p = softmax(logits / 10**exponent)[np.arange(len(given)), given]
        return float(-np.log(p + 1e-12).mean())

    return float(10 ** minimize_scalar(loss, bounds=(-1, 2), method="bounded").x)
