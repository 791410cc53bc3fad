"""Fixes tried on one half of a run and evaluated on the other; a retrained last layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, train_test_split

from cvx_diagnose.analysis.fixes.detection_thresholds import try_thresholds
from cvx_diagnose.analysis.labeled_rows import LabeledRows
from cvx_diagnose.analysis.metrics.statistics import BOOTSTRAP_SAMPLES, mcnemar
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_FEWEST = 40


def try_fixes(run: Run) -> list[dict[str, Any]]:
    """Return the result of each fix that applies to the task.

    Returns
    -------
    list of dict
        ``name``; ``tried``, false where it could not be, with the reason in ``note``;
        ``trained_on`` and ``evaluated_on``, numbers of inputs; ``before`` and ``after``, accuracy
        on the latter; ``change`` with ``low`` and ``high``, its 95 % interval; ``fixed``,
        ``broken`` and ``p`` (`cvx_diagnose.analysis.metrics.statistics.mcnemar`). A new last layer
        knows only the classes of the data: where the network knows more, ``restricted`` is the
        accuracy of the old one among these, and the change is relative to it. ``gain`` is relative
        to ``before``. For detectors see `.detection_thresholds.try_thresholds`.
    """
    if "logits" in run.schema.names:
        return [_last_layer(run)]
    return [try_thresholds(run)] if "candidates" in run.schema.names else []


def _last_layer(run: Run) -> dict[str, Any]:
    """Train a new last layer on the features of one half, and predict the other."""
    name = "retraining the last layer"
    table = run.table(["sha256", "label", "correct", "features"], status="ok")
    table = table.filter(table["label"].is_valid())
    labels = np.array(table["label"].to_pylist(), dtype=np.int64)
    counts = np.bincount(labels, minlength=1)
    usable = counts[labels] >= 4 if len(labels) else np.zeros(0, dtype=bool)
    classes = np.unique(labels[usable])
    if usable.sum() < _FEWEST or len(classes) < 2:
        note = (
            f"It needs {_FEWEST} inputs in two or more classes of four or more, got "
            f"{int(usable.sum())} in {len(classes)}."
        )
        return {"name": name, "tried": False, "note": note}
    features = np.nan_to_num(run.numbers(table, "features")[usable])
    labels, correct = labels[usable], np.array(table["correct"].to_pylist(), dtype=bool)[usable]
    files = [one or f"input {k}" for k, one in enumerate(table["sha256"].to_pylist())]
    # Copies of one file must not be in both halves.
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    train, test = next(halves.split(labels, labels, np.array(files)[usable]))
    scale = float(features[train].std()) or 1.0
    model = _trained(features[train] / scale, labels[train])
    now = model.predict(features[test] / scale) == labels[test]
    before, restricted = correct[test], None
    if len(classes) < run.plan.outputs:
        restricted_correct = _among(run, classes, np.flatnonzero(usable)[test]) == labels[test]
        restricted = float(restricted_correct.mean())
    return {
        "name": name,
        "tried": True,
        "measure": "accuracy",
        "trained_on": len(train),
        "evaluated_on": len(test),
        **accuracy_change(before if restricted is None else restricted_correct, now),
        "before": float(before.mean()),
        "restricted": restricted,
        "gain": float(now.mean() - before.mean()),
    }


def _among(run: Run, classes: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> Numbers:
    """Return the predictions of the original network restricted to some classes."""
    logits = LabeledRows(run).gather("logits", at)[:, classes]
    found: Numbers = classes[np.nan_to_num(logits).argmax(1)]
    return found


def _trained(features: Numbers, labels: npt.NDArray[np.int64]) -> Any:
    """Return a logistic regression; its regularization is chosen on a quarter of the data."""
    counts = np.bincount(labels)
    split = train_test_split(
        np.arange(len(labels)),
        test_size=0.25,
        random_state=0,
        stratify=labels if counts[counts > 0].min() >= 4 else None,
    )
    model = GridSearchCV(LogisticRegression(max_iter=300), {"C": _STRENGTHS}, cv=[split])
    return model.fit(features, labels)


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
