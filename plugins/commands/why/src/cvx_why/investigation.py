"""Investigation of a mistake (``cvx.why``): the regions that cause it, tested by perturbation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cvx_core import OptionError, TargetError, UsageError, VisionModel, wrap
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
    image_label,
)
from cvx_why.report.assembly import assemble_report, report_correct
from cvx_why.report.error_report import ErrorReport
from cvx_why.search.candidates import margin_map
from cvx_why.search.counterfactual import find_counterfactual
from cvx_why.search.fix import find_fix
from cvx_why.search.inpainting import FILLS, from_image
from cvx_why.search.perturbations import PassCounter, PerturbationRunner
from cvx_why.search.preparations import MOST, try_preparations
from cvx_why.search.regions import verify_regions
from cvx_why.search.search import Search

_SETUP_PASSES = 11
"""Images that the analysis of a network takes, with the original image and the margin map."""
_SEARCH = 50
"""Images that the search gets before other preparations of the image are tried."""
MIN_BUDGET = 40
"""Images that a search needs, the analysis of the network included."""
MAX_BUDGET = 100_000
"""A larger budget is a mistake, and would run for days."""


def why(
    model: VisionModel | nn.Module,
    image: Any,
    label: GroundTruth,
    *,
    budget: int = 60,
    error: int = 0,
    rival: ClassRef | None = None,
    reference_image: Any = None,
    profile: bool = False,
    memory: int | None = None,
) -> ErrorReport:
    """Explain why a prediction is wrong, and test each claim by perturbation.

    Parameters
    ----------
    model
        The model; it is left unchanged.
    image
        A path, PIL image, uint8 array (H, W, 3), or a prepared float tensor (1, C, H, W).
    label
        The ground truth: a class by name or index; `GroundTruthMask` for a segmenter,
        `GroundTruthBoxes` for a detector; or text, as after ``--label``.
    budget
        Maximum number of images in forward passes, 40 to 100,000. The first 50 are the search's,
        the next 10 for other preparations of the image (`ErrorReport.preparations`). The layer
        profile and the counterfactual are not included.
    error
        Index of the mistake, 0 for the most costly.
    rival
        For a classifier: explain this class versus `label`, whichever class is predicted. Then a
        correct prediction is explained as well.
    reference_image
        An image of the true class. It serves as one more fill, and as the source of a
        counterfactual: the positions of a layer that correct the prediction
        (`cvx_why.search.counterfactual`).
    profile
        Whether to add the layer profile of the mistake; requires cvx-activation-error.
    memory
        Memory budget for one batch in bytes, 1 or more; None chooses it from the device.

    Returns
    -------
    ErrorReport
        For a correct prediction its `type` is ``"correct"``, and nothing is blamed.

    Raises
    ------
    TargetError
        If the class or mistake does not exist, or the ground truth does not fit the model.
    OptionError
        If budget or memory is out of range.
    InputError, ModelError
        If the image can't be read, or the model fails on it.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> print(cvx.why(model, "screwdriver.jpg", "screwdriver").text)         # doctest: +SKIP
    """
    check_numbers(budget, memory)
    model = wrap(model)
    if model.classes is not None and rival is not None:
        find_class(rival, model.classes, len(model.classes))
    [label] = model.task.labels_per_image(label, 1)
    if isinstance(label, str | int):
        count = None if model.classes is None else len(model.classes)
        file = image if isinstance(image, str | Path) else ""
        label = image_label(model.task, label, file, model.classes, count)
    prepared = model.prepare(image)
    if len(prepared) != 1:
        raise UsageError(f"image must be one image, got {len(prepared)}.", "Pass one at a time.")
    [one] = prepared
    passes = PassCounter(model)
    with passes.attach():
        [prediction] = model.predictions(model.output(one.tensor[None]), [one.frame])
        mistake = _find_mistake(prediction, label, error, rival)
        if mistake is None:
            return report_correct(model, one, prediction, label, passes, budget)
        fills = dict(FILLS)
        other = None
        if reference_image is not None:
            other = _prepare_like(model, reference_image, one)
            fills["reference"] = from_image(other)
        # The verification takes one image for each fill, and the fix one for its confirmation.
        runner = PerturbationRunner(
            model, one, mistake, prediction, passes, budget, memory, reserved=len(fills)
        )
        contrast = margin_map(runner, runner.inputs)
        searched = max(min(budget, _SEARCH), budget - MOST)
        preparations = try_preparations(runner, budget - searched) if mistake.margin > 0 else ()
        # The search must not depend on whether the network has been analyzed before.
        runner.limit = min(budget, passes.images + searched - _SETUP_PASSES)
        search = Search(runner, contrast)
        search.run(searched / _SEARCH)
        regions = verify_regions(search, fills)
        fix = find_fix(search, regions, fills) if mistake.margin > 0 else None
    counterfactual = None if other is None else find_counterfactual(runner, other)
    return assemble_report(
        model,
        one,
        prediction,
        label,
        budget,
        search,
        regions,
        fix,
        preparations,
        counterfactual,
        profile,
    )


def _find_mistake(
    prediction: Prediction, label: GroundTruth, error: int, rival: ClassRef | None
) -> Mistake | None:
    if rival is not None:
        if not isinstance(prediction, ClassificationPrediction):
            raise TargetError("rival requires a classifier and a class as the label.", "Omit it.")
        return Misclassified.between(prediction, rival, label)
    mistakes = find_mistakes(prediction, label)
    if not mistakes and error == 0:
        return None
    if not 0 <= error < len(mistakes):
        known = f"error must be 0 to {len(mistakes) - 1}, the most costly being 0."
        raise TargetError(
            f"There is no mistake {error}: the prediction has {len(mistakes)}.",
            known if mistakes else "The prediction is correct; omit error.",
        )
    return mistakes[error]


def check_numbers(budget: int, memory: int | None) -> None:
    """Check the numbers before a model is loaded.

    Raises
    ------
    OptionError
        If budget or memory is out of range.
    """
    if type(budget) is not int or not MIN_BUDGET <= budget <= MAX_BUDGET:
        between = f"{MIN_BUDGET} to {MAX_BUDGET}"
        raise OptionError(f"budget must be an integer, {between}, got {budget!r}.")
    if memory is not None and (type(memory) is not int or memory < 1):
        raise OptionError(f"memory must be an integer, 1 or more, got {memory!r}.")


def _prepare_like(model: VisionModel, image: Any, like: PreparedImage) -> Tensor:
    others = model.prepare(image)
    if len(others) != 1 or others[0].tensor.shape != like.tensor.shape:
        raise UsageError(
            "reference_image and image give inputs of different shapes.",
            "Use one image of the same aspect ratio, or a model that crops.",
        )
    return others[0].tensor[None]
