"""Statistics: confidence intervals, tests of significance, and a reproducible random order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from scipy.stats import binomtest, false_discovery_control

BOOTSTRAP_SAMPLES = 2000


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion (Wilson, JASA 1927), in [0, 1].

    Examples
    --------
    >>> [round(x, 3) for x in wilson(90, 100)]
    [0.826, 0.945]
    """
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(successes, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(fixed: int, broken: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (Psychometrika 1947).

    Under the null hypothesis an input that changed between correct and wrong is as likely fixed
    as broken.

    Examples
    --------
    >>> round(mcnemar(8, 2), 4), mcnemar(3, 3)
    (0.1094, 1.0)
    """
    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple testing.

    Of those below q at most a share of q are expected to be false discoveries (Benjamini and
    Hochberg, J. R. Stat. Soc. B 1995).
    """
    return [float(p) for p in false_discovery_control(list(p_values))] if p_values else []


def shuffle_ids(ids: Sequence[int]) -> list[int]:
    """Return ids in a random order that is the same in every run.

    Sorted by a digest of each id, so that the order depends neither on the shard nor the engine.
    """

    def digest(number: int) -> bytes:
        return hashlib.blake2b(str(number).encode(), digest_size=8).digest()

    return sorted(ids, key=lambda one: (digest(one), one))
