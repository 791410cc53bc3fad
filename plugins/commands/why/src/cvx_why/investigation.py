"""``cvx.why``: which part of an image makes an answer wrong, tested by removing it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvx_core import OptionError, TargetError, UsageError, VisionModel
from cvx_core.images import PreparedImage
from cvx_core.tasks import (
    ClassificationPrediction,
    ClassRef,
    GroundTruth,
    Misclassified,
    Mistake,
    Prediction,
    find_class,
    find_mistakes,
)
from cvx_why.report.error_report import ErrorReport
from cvx_why.report_assembly import assembled, nothing_wrong
from cvx_why.search.counterfactual import additions
from cvx_why.search.fix import fix
from cvx_why.search.inpainting import FILLS, reference
from cvx_why.search.perturbations import Passes, Trials
from cvx_why.search.regions import examined
from cvx_why.search.search import Search

_FIRST_LOOK = 6
"""Images that it takes to get to know a network, the picture as it is among them."""
LEAST = 40
"""Images that a search needs, some of which the first look at a network takes."""
MOST = 100_000
"""Images that a search may be given: a larger number is a slip, and would run for days."""


def why(
    model: VisionModel,
    image: Any,
    label: GroundTruth,
    *,
    budget: int = 50,
    error: int = 0,
    rival: ClassRef | None = None,
    reference_image: Any = None,
    profile: bool = False,
    memory: int | None = None,
) -> ErrorReport:
    """Return why a model's answer for an image is wrong: what is blamed was removed and re-run.

    Parameters
    ----------
    model
        The model; it is left exactly as found.
    image
        A path, PIL image, uint8 array (H, W, 3), or a prepared float tensor (1, C, H, W).
    label
        The truth: a class by name or index; `GroundTruthMask` of a segmenter's image,
        `GroundTruthBoxes` of
        a detector's.
    budget
        Images that may go through the network, each counting one, whoever sends them: 40 to
        100,000. The layer profile and the exchange with a reference image come on top.
    error
        Which of the answer's errors, the most costly being 0.
    rival
        Of a classifier: ask why this class rather than `label`, whichever of all classes came
        first. Then a right answer is looked into as well.
    reference_image
        A photograph of the true class: its content is used as one more fill, and the cells of a
        layer that it would take to make the answer right are found
        (`cvx_why.search.counterfactual`).
    profile
        Whether to add the layer profile of the error's request, if cvx-activation-error is
        installed.
    memory
        Bytes that images run together may take, 1 or more; None chooses from the device's memory.

    Returns
    -------
    ErrorReport
        Where the answer is right its `type` is ``"right"``, and nothing is blamed.

    Raises
    ------
    TargetError
        If there is no such class or error, or the truth is not of the model's kind.
    OptionError
        If the budget or the memory is out of its range.
    InputError, ModelError
        If the image can't be read, or the model fails on it.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> print(cvx.why(model, "screwdriver.jpg", "screwdriver").text)         # doctest: +SKIP
    """
    check_numbers(budget, memory)
    if model.task == "classification" and model.classes is not None:
        for known in (label, rival):
            if isinstance(known, str | int):
                find_class(known, model.classes, len(model.classes))
    prepared = model.prepare(image)
    if len(prepared) != 1:
        raise UsageError(f"There are {len(prepared)} images.", "Ask about one at a time.")
    [one] = prepared
    passes = Passes(model)
    with passes.counting():
        found = model.output(one.tensor[None])
        [answer] = model.predictions(found, [one.frame])
        case = _case(answer, label, error, rival)
        if case is None:
            return nothing_wrong(model, one, answer, label, passes, budget)
        fills = dict(FILLS)
        other = None
        if reference_image is not None:
            other = _same_size(model, reference_image, one)
            fills["reference"] = reference(other)
        # Kept for the verdict on a region, which takes all fills, and for the fix to be sure of.
        trials = Trials(model, one, case, answer, passes, budget, memory, kept=len(fills))
        # What a search may run must not depend on whether the network is known already.
        trials.most = min(budget, passes.images + budget - _FIRST_LOOK)
        search = Search(trials)
        search.run(budget / 50)
        regions = examined(search, fills)
        fixed = fix(search, regions, fills) if case.margin > 0 else None
    swapped = None if other is None else additions(trials, other)
    return assembled(model, one, answer, label, budget, search, regions, fixed, swapped, profile)


def _case(
    answer: Prediction, label: GroundTruth, error: int, rival: ClassRef | None
) -> Mistake | None:
    if rival is not None:
        if not isinstance(answer, ClassificationPrediction) or not isinstance(label, str | int):
            raise TargetError("Only a classifier's answer has a rival class.", "Leave rival out.")
        return Misclassified.between(answer, rival, label)
    errors = find_mistakes(answer, label)
    if not errors and error == 0:
        return None
    if not 0 <= error < len(errors):
        known = f"Take one of 0 to {len(errors) - 1}, the most costly being 0."
        raise TargetError(
            f"There is no error {error}: the answer has {len(errors)}.",
            known if errors else "The answer is right; leave the number out.",
        )
    return errors[error]


def check_numbers(budget: int, memory: int | None) -> None:
    """Check what is known before any model is loaded.

    Raises
    ------
    OptionError
        If the budget or the memory is out of its range.
    """
    _whole("budget", budget, LEAST, MOST)
    if memory is not None:
        _whole("memory", memory, 1)


def _whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < least
        or (most is not None and value > most)
    ):
        upwards = "or more" if most is None else f"to {most}"
        raise OptionError(f"{name} is {value!r}.", f"Take a whole number, {least} {upwards}.")


def _same_size(model: VisionModel, image: Any, like: PreparedImage) -> Tensor:
    others = model.prepare(image)
    if len(others) != 1 or others[0].tensor.shape != like.tensor.shape:
        raise UsageError(
            "The reference image gives the network another input than the image itself.",
            "Take one photograph of the same proportions, or a model that crops.",
        )
    return others[0].tensor[None]
