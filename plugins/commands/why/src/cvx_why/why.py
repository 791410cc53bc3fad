"""``cvx.why``: which part of an image makes an answer wrong, tested by removing it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvx_core import Explanation, OptionError, Record, TargetError, UsageError, VisionModel
from cvx_core.answers import Answer
from cvx_core.calling import reading
from cvx_core.error_case import ErrorCase, Misclassified
from cvx_core.error_cases import errors_of
from cvx_core.scores import ClassRef, Scores
from cvx_core.target import ClassScore, Target
from cvx_core.truth import Truth
from cvx_core.version import __version__
from cvx_core.vision_model import Prepared
from cvx_why.blame import blame_map
from cvx_why.fills import FILLS, reference
from cvx_why.fixing import Fix, fix
from cvx_why.regions import Blamed, blamed, usual_change
from cvx_why.report import BlamedRegion, ErrorReport, FixFound, Removal
from cvx_why.search import Search
from cvx_why.swap import additions
from cvx_why.trials import Passes, Trials

LEAST = 40
"""Images that a search needs, some of which the first look at a network takes."""


def why(
    model: VisionModel,
    image: Any,
    label: Truth,
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
        The truth: a class by name or index; `TrueClasses` of a segmenter's image, `TrueBoxes` of
        a detector's.
    budget
        Images that may go through the network, each counting one, whoever sends them: 40 or
        more. The layer profile and the exchange with a reference image come on top.
    error
        Which of the answer's errors, the most costly being 0.
    rival
        Of a classifier: ask why this class rather than `label`, whichever of all classes came
        first. Then a right answer is looked into as well.
    reference_image
        A photograph of the true class: its content is used as one more fill, and the cells of a
        layer that it would take to make the answer right are found (`cvx_why.swap`).
    profile
        Whether to add the layer profile of the error's question, if cvx-activation-error is
        installed.
    memory
        Bytes that images run together may take; None chooses from the device's memory.

    Returns
    -------
    ErrorReport
        Where the answer is right its `type` is ``"right"``, and nothing is blamed.

    Raises
    ------
    TargetError
        If there is no such class or error, or the truth is not of the model's kind.
    OptionError
        If the budget is too small.
    InputError, ModelError
        If the image can't be read, or the model fails on it.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> print(cvx.why(model, "screwdriver.jpg", "screwdriver").text)         # doctest: +SKIP
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < LEAST:
        raise OptionError(f"A budget of {budget!r} images is too small.", f"Take {LEAST} or more.")
    prepared = model.prepare(image)
    if len(prepared) != 1:
        raise UsageError(f"There are {len(prepared)} images.", "Ask about one at a time.")
    [one] = prepared
    passes = Passes(model)
    with passes.counting():
        found = reading(model, one.tensor[None])
        [answer] = found.answers(model.classes, [one.frame])
        case = _case(answer, label, error, rival)
        if case is None:
            return _right(model, one, answer, label, passes, budget)
        trials = Trials(model, one, case, answer, passes, budget, memory)
        fills = dict(FILLS)
        other = None
        if reference_image is not None:
            other = _same_size(model, reference_image, one)
            fills["reference"] = reference(other)
        search = Search(trials)
        search.run(budget / 50)
        regions = blamed(search, fills)
        fixed = fix(search, regions, fills) if case.margin > 0 else None
    swapped = None if other is None else additions(trials, other)
    return _report(model, one, answer, label, search, regions, fixed, swapped, profile)


def _case(answer: Answer, label: Truth, error: int, rival: ClassRef | None) -> ErrorCase | None:
    if rival is not None:
        if not isinstance(answer, Scores) or not isinstance(label, str | int):
            raise TargetError("Only a classifier's answer has a rival class.", "Leave rival out.")
        return Misclassified.between(answer, rival, label)
    errors = errors_of(answer, label)
    if not errors and error == 0:
        return None
    if not 0 <= error < len(errors):
        raise TargetError(
            f"There is no error {error}: the answer has {len(errors)}.", "The first is 0."
        )
    return errors[error]


def _same_size(model: VisionModel, image: Any, like: Prepared) -> Tensor:
    others = model.prepare(image)
    if len(others) != 1 or others[0].tensor.shape != like.tensor.shape:
        raise UsageError(
            "The reference image gives the network another input than the image itself.",
            "Take one photograph of the same proportions, or a model that crops.",
        )
    return others[0].tensor[None]


def _right(
    model: VisionModel, image: Prepared, answer: Answer, label: Truth, passes: Passes, budget: int
) -> ErrorReport:
    true = answer.entry(answer.find(label)) if isinstance(answer, Scores) else None  # type: ignore[arg-type]
    target: Target = ClassScore(true.index if true else 0)
    zero = torch.zeros(image.tensor.shape[1:])
    nothing = _explanation(model, image, answer, target, label, zero, "blame", {})
    return ErrorReport(
        name=image.picture.name,
        model=model.name,
        type="right",
        question=nothing.target.text,
        predicted=true,
        true=true,
        loss=0.0 if true is None else float(-np.log(max(true.probability, 1e-300))),
        margin=0.0,
        regions=(),
        usual=0.0,
        fix=None,
        contrast=nothing.replace(method="contrast"),
        blame=nothing,
        passes=passes.images,
        backwards=passes.backwards,
        budget=budget,
    )


def _report(
    model: VisionModel,
    image: Prepared,
    answer: Answer,
    label: Truth,
    search: Search,
    regions: Sequence[Blamed],
    fixed: Fix | None,
    swapped: dict[str, Any] | None,
    profile: bool,
) -> ErrorReport:
    case, passes = search.trials.case, search.trials.passes
    shown = [_shown(image, one) for one in regions]
    found = None if fixed is None else _found(image, fixed)
    usual = usual_change(search)
    evidence: dict[str, Any] = {
        "margin": case.margin,
        "usual_change": usual,
        "regions": [{**one.to_dict(), **_flat(one)} for one in shown],
        "fix": found.to_dict() if found else None,
        "passes": passes.images,
        "backward_passes": passes.backwards,
    }
    blame = _explanation(
        model,
        image,
        answer,
        case.target,
        label,
        blame_map(search, list(regions)),
        "blame",
        evidence,
    )
    contrast = _explanation(
        model, image, answer, case.target, label, search.maps.signed, "contrast", {}
    )
    contrast = contrast.replace(
        provenance=Record({**contrast.provenance, "layers": search.maps.layers})
    )
    return ErrorReport(
        name=image.picture.name,
        model=model.name,
        type=case.type,
        question=blame.target.text,
        predicted=case.predicted,
        true=case.true,
        loss=case.loss,
        margin=case.margin,
        regions=tuple(shown),
        usual=usual,
        fix=found,
        contrast=contrast,
        blame=blame,
        passes=passes.images,
        backwards=passes.backwards,
        budget=search.trials.most,
        additions=swapped,
        profile=_profile(model, image, case.target) if profile else (),
    )


def _flat(one: BlamedRegion) -> dict[str, Any]:
    return {"removals": ", ".join(f"{name} {r.change:+.2f}" for name, r in one.removals.items())}


def _shown(image: Prepared, one: Blamed) -> BlamedRegion:
    mask = _mask(one.mask)
    removals = {name: Removal(r.change, r.right) for name, r in one.removals.items()}
    return BlamedRegion(
        mask,
        _box(image, mask),
        float(mask.mean()),
        one.predicted,
        removals,
        one.disagreement,
        one.verdict,
    )


def _found(image: Prepared, fixed: Fix) -> FixFound:
    mask = _mask(fixed.removed.mask)
    inputs = fixed.inputs[0].detach().float().cpu().numpy()
    return FixFound(
        mask, _box(image, mask), float(mask.mean()), fixed.fill, fixed.removed.change, inputs
    )


def _mask(mask: Tensor) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = mask.cpu().numpy()
    found.setflags(write=False)
    return found


def _box(image: Prepared, mask: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    left, top, right, bottom = image.frame.to_photo(corners).tolist()
    return left, top, right, bottom


def _explanation(
    model: VisionModel,
    image: Prepared,
    answer: Answer,
    target: Target,
    label: Truth,
    values: Tensor,
    method: str,
    evidence: dict[str, Any],
) -> Explanation:
    known = label if isinstance(answer, Scores) else None
    return Explanation(
        values=values.detach().float().cpu().numpy(),
        extent=image.extent,
        image=image.picture.pixels,
        target=answer.resolve(target, known)[1],
        method=method,
        unit="logits",
        name=image.picture.name,
        evidence=Record({"sum": float(values.double().sum()), **evidence}),
        provenance=Record(
            method=method,
            model=model.name,
            model_details=model.details,
            weights_sha256=model.digest(),
            image_sha256=image.picture.digest,
            display_note=image.note,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            versions={
                "cvx": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        ),
    )


def _profile(model: VisionModel, image: Prepared, target: Target) -> tuple[Record, ...]:
    from cvx_core import get_explainer

    explainer = get_explainer("activation-error", profile=True)
    [found] = explainer.explain(model, image.tensor[None], target)
    return tuple(found.evidence["layer_profile"])
