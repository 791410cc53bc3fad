"""Quality of labels: the probability that a label is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

Numbers = npt.NDArray[Any]

_STEPS = 100
_FIRST, _RAREST, _MOST = 0.05, 1e-4, 0.5
"""Share of wrong labels that is assumed first, and its limits."""


def wrong_label_posterior(given: Numbers, classes: int) -> Numbers:
    """Return the probability that each label is wrong, (n,).

    An image whose class is y with probability p has the label y if y is its class and the label is
    right, or if it is of another class and the label is wrong by chance, with the share e of wrong
    labels spread over the other classes: p (1 - e) against (1 - p) e / (C - 1). The share is found
    by expectation maximization. It needs neither the thresholds of confident learning (Northcutt,
    JAIR 2021) nor their margin, which doubts whatever lies between two classes.

    Parameters
    ----------
    given
        (n,), probability of the given class by a model that was not trained on the label.
    classes
        Number of classes, C.
    """
    share = _FIRST
    wrong: Numbers = np.zeros(len(given))
    for _ in range(_STEPS):
        chance = share / max(1, classes - 1) * (1 - given)
        wrong = chance / np.maximum(chance + (1 - share) * given, 1e-300)
        share = float(np.clip(wrong.mean() if len(wrong) else 0.0, _RAREST, _MOST))
    return wrong


def softmax(logits: Numbers) -> Numbers:
    """Return probabilities (n, C) in float64."""
    limit = float(np.finfo(np.float16).max)
    logits = np.nan_to_num(logits.astype(np.float64), posinf=limit, neginf=-limit)
    found: Numbers = scipy.special.softmax(logits, axis=1)
    return found
