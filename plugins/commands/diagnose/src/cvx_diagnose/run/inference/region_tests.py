"""Regions that are removed to see what becomes of an error: `cvx_core.why` within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

import cvx_core
from cvx_core import CvxError, MethodError, OptionError, VisionModel
from cvx_core.images import PreparedImage
from cvx_core.tasks import GroundTruth, find_mistakes
from cvx_diagnose.run.rows import OK, Row

Load = Callable[[int], tuple[PreparedImage, GroundTruth | None]]

PASSES = 50
"""Images that go through the network for one error."""


_BUDGET = 0.25
_ENOUGH = 20
"""Errors, tested, from which a folder of few images shows what they have in common."""
_MOST = 2.0


def usual_budget(items: int) -> float:
    """Return the budget where none is given: a quarter, and more where that tests few errors.

    Examples
    --------
    >>> usual_budget(100_000), usual_budget(500), usual_budget(2000), usual_budget(10)
    (0.25, 2.0, 0.5, 2.0)
    """
    return max(_BUDGET, min(_MOST, _ENOUGH * PASSES / max(1, items)))


def tested_errors(budget: float, items: int) -> int:
    """Return in how many errors of a block regions are removed.

    Examples
    --------
    >>> tested_errors(0, 256), tested_errors(0.25, 256), tested_errors(2, 256), tested_errors(1, 8)
    (0, 1, 10, 1)
    """
    return max(1, round(budget * items / PASSES)) if budget > 0 else 0


def check_installed() -> None:
    """Refuse a budget that nobody can spend.

    Raises
    ------
    OptionError
        Saying what to install.
    """
    try:
        _ = cvx_core.why
    except AttributeError as error:
        raise OptionError(
            "Regions are tested by the plugin cvx-why, which is not installed.",
            "Install it: pip install cvx-why. Or pass --budget 0 and have none tested.",
        ) from error


def note(rows: Sequence[Row], count: int, why: str) -> None:
    """Note in the `count` errors of a block that cost most that no region was tested, and why."""
    for row in _costliest(rows, count):
        _untested(row, why)


def _costliest(rows: Sequence[Row], count: int) -> list[Row]:
    wrong = [row for row in rows if row["status"] == OK and row.get("right") is False]
    return sorted(wrong, key=lambda row: (-row["loss"], row["id"]))[:count]


def _untested(row: Row, why: str) -> None:
    row["message"] = f"No region was tested: {why}"


class Interventions:
    """Tests the errors of a block that cost most.

    Parameters
    ----------
    model
        The network.
    """

    def __init__(self, model: VisionModel) -> None:
        self.model = model
        self._known: set[tuple[int, ...]] = set()

    def add(self, rows: Sequence[Row], count: int, load: Load) -> None:
        """Put what was found out into the rows of the `count` errors that cost most.

        Parameters
        ----------
        rows, count
            Of a block, and how many errors.
        load
            From an item's id to the prepared image and what is true of it; raises `InputError`.
        """
        for row in _costliest(rows, count):
            try:
                row |= self._tested(row, load)
            except CvxError as error:
                _untested(row, error.message)

    def _tested(self, row: Row, load: Load) -> Row:
        image, truth = load(row["id"])
        assert truth is not None
        self._get_to_know(image.tensor)
        report = cvx_core.why(self.model, [image], truth, budget=PASSES)
        return {
            "tested": True,
            "usual": report.usual,
            "fix": None if report.fix is None else report.fix.to_dict(),
            "regions": [_region(one) for one in report.regions],
        }

    def _get_to_know(self, image: torch.Tensor) -> None:
        """Have all that is found out once about a network found out.

        It counts as passes, so that the first image would be looked into less than others, and
        differently after a run was gone on with.
        """
        shape = tuple(image.shape)
        if shape in self._known:
            return
        self._known.add(shape)
        like = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(image)
        [answer] = self.model.predict(like[None])
        wrong = None
        if self.model.task == "classification":
            wrong = int((answer.predicted + 1) % answer.count)  # type: ignore[attr-defined]
        if wrong is not None and find_mistakes(answer, wrong):
            try:
                cvx_core.why(self.model, like[None], wrong, budget=PASSES)
            except MethodError:  # it will say so of the images that count
                return


def _region(one: Any) -> Row:
    return {
        "box": list(one.box),
        "share": one.share,
        "predicted": one.predicted,
        "measured": median(removal.change for removal in one.removals.values()),
        "verdict": one.verdict,
    }
