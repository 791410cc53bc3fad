"""Verdicts of several checks."""

from __future__ import annotations

import itertools

from cvx_core.explainers.check import VERDICTS, worst


def test_the_least_favourable_of_several_verdicts_counts() -> None:
    verdicts = [{"verdict": name, "reason": name} for name in VERDICTS]
    for several in itertools.permutations(verdicts):
        assert worst(several) == verdicts[-1]
    assert worst(verdicts[:2]) == verdicts[1]


def test_of_equal_verdicts_the_first_counts() -> None:
    first, second = ({"verdict": VERDICTS[1], "reason": r} for r in ("first", "second"))
    assert worst([first, second]) is first
