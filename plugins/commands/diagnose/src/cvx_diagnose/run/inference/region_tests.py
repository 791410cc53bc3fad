"""Tests of regions: `cvx_core.why` on the most costly errors, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import cvx_core
from cvx_core import OptionError, VisionModel
from cvx_core.images import PreparedImage
from cvx_core.tasks import GroundTruth
from cvx_diagnose.run.rows import NO_TEST, OK, Row

cvx: Any = cvx_core  # with the functions of installed commands, which its stub does not list

PASSES = 50
"""Images sent through the network for one error."""


_BUDGET = 0.25
_ENOUGH = 20
"""Number of tested errors aimed at in small data sets."""
_MOST = 2.0


def default_budget(items: int) -> float:
    """Return the default budget: 0.25, more where that would test only a few errors.

    Examples
    --------
    >>> default_budget(100_000), default_budget(500), default_budget(2000), default_budget(10)
    (0.25, 2.0, 0.5, 2.0)
    """
    return max(_BUDGET, min(_MOST, _ENOUGH * PASSES / max(1, items)))


def tested_errors(budget: float, items: int) -> int:
    """Return in how many errors of a block regions are tested.

    Examples
    --------
    >>> tested_errors(0, 256), tested_errors(0.25, 256), tested_errors(2, 256), tested_errors(1, 8)
    (0, 1, 10, 1)
    """
    return max(1, round(budget * items / PASSES)) if budget > 0 else 0


def require_why() -> None:
    """Check that the plugin that tests regions is installed.

    Raises
    ------
    OptionError
        Saying what to install.
    """
    try:
        _ = cvx.why
    except AttributeError as error:
        raise OptionError(
            "Testing regions requires the plugin cvx-why, which is not installed.",
            f"Install it: {cvx.install_command('cvx-why')}\nOr pass --budget 0 to test none.",
        ) from error


def say_untested(row: Row, why: str) -> None:
    """Record why no region was tested, after what the row already says."""
    row["message"] = f"{row.get('message') or ''} {NO_TEST}{why}".strip()


def costliest_errors(rows: Sequence[Row], count: int) -> list[Row]:
    """Return the `count` most costly errors among rows."""
    wrong = [row for row in rows if row["status"] == OK and row.get("correct") is False]
    return sorted(wrong, key=lambda row: (-row["loss"], row["id"]))[:count]


def tested_regions(
    model: VisionModel, image: PreparedImage, ground_truth: GroundTruth | None
) -> Row:
    """Return the columns of a row about the regions of an error.

    Raises
    ------
    CvxError
        If none can be tested.
    """
    assert ground_truth is not None
    report = cvx.why(model, [image], ground_truth, budget=PASSES)
    return {
        "tested": True,
        "control_change": report.control_change,
        "fix": None if report.fix is None else report.fix.to_dict(),
        "regions": [_region(one) for one in report.regions],
    }


def _region(one: Any) -> Row:
    return {
        "box": list(one.box),
        "share": one.share,
        "predicted": one.predicted_change,
        "measured": median(fill.change for fill in one.fills.values()),
        "verdict": one.verdict,
    }
