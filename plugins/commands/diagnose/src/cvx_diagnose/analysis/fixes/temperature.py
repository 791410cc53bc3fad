"""Temperature scaling of a classifier's logits (Guo et al., ICML 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cvx_diagnose.analysis.fixes.halves import Halves
from cvx_diagnose.analysis.labeled_rows import LabeledRows
from cvx_diagnose.analysis.metrics.statistics import mcnemar
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]

_BINS = 15
_DRAWS = 400


def try_temperature(run: Run, halves: Halves) -> dict[str, Any]:
    """Choose the temperature by which logits are divided on one half, and evaluate on the other.

    Chosen is the one with the least cross-entropy. Predictions stay as they are.

    Returns
    -------
    dict
        As of `.last_layer.try_fixes`, of 1 less the expected calibration error, so that more is
        better; an input is ``fixed`` or ``broken`` if its cross-entropy fell or rose.
        ``temperature`` is the one chosen.
    """
    logits = np.nan_to_num(LabeledRows(run).gather("logits", halves.positions)).astype(np.float64)
    labels = halves.labels

    def losses(at: Numbers, temperature: float) -> Numbers:
        found: Numbers = -log_softmax(logits[at] / temperature, axis=1)[
            np.arange(len(at)), labels[at]
        ]
        return found

    best = minimize_scalar(
        lambda power: float(losses(halves.train, 10**power).mean()),
        bounds=(-1.5, 1.5),
        method="bounded",
    )
    temperature = float(10**best.x)
    test = halves.test
    old, new = losses(test, 1.0), losses(test, temperature)
    # Below the rounding of logits kept in 16 bits nothing changed.
    better, worse = int((new < old - 1e-4).sum()), int((new > old + 1e-4).sum())
    confidence = [np.exp(log_softmax(logits[test] / t, axis=1)).max(1) for t in (1.0, temperature)]
    right = logits[test].argmax(1) == labels[test]
    errors = [calibration_error(one, right) for one in confidence]
    draws = np.random.default_rng(0).integers(0, len(test), (_DRAWS, len(test)))
    changes = [
        calibration_error(confidence[0][at], right[at])
        - calibration_error(confidence[1][at], right[at])
        for at in draws
    ]
    return {
        "name": f"dividing the logits by the temperature {temperature:.3g}",
        "tried": True,
        "measure": "1 - calibration error",
        "trained_on": len(halves.train),
        "evaluated_on": len(test),
        "temperature": temperature,
        "before": 1 - errors[0],
        "after": 1 - errors[1],
        "change": errors[0] - errors[1],
        "low": float(np.quantile(changes, 0.025)),
        "high": float(np.quantile(changes, 0.975)),
        "fixed": better,
        "broken": worse,
        "p": mcnemar(better, worse),
        "gain": 0.0,
    }


def calibration_error(confidence: Numbers, correct: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error with 15 bins, in [0, 1] (Guo et al., ICML 2017).

    Examples
    --------
    >>> round(calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 6)
    0.4
    """
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=_BINS)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))
