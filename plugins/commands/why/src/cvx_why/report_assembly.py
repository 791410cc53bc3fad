"""From what a search found to the report: masks, boxes, explanations."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvx_core import Explanation, Metadata, VisionModel, __version__
from cvx_core.images import PreparedImage
from cvx_core.tasks import ClassificationPrediction, GroundTruth, Predicted, Prediction, Target
from cvx_why.report.data import FixFound, RegionReport, Removal
from cvx_why.report.error_report import ErrorReport
from cvx_why.search.attribution import blame_map
from cvx_why.search.fix import Fix
from cvx_why.search.perturbations import Passes
from cvx_why.search.regions import Examined, usual_change
from cvx_why.search.search import Search


def nothing_wrong(
    model: VisionModel,
    image: PreparedImage,
    answer: Prediction,
    label: GroundTruth,
    passes: Passes,
    budget: int,
) -> ErrorReport:
    """Return the report of an answer that is right: nothing is asked, and nothing blamed."""
    true = (
        answer.entry(answer.find(label)) if isinstance(answer, ClassificationPrediction) else None
    )  # type: ignore[arg-type]
    zero = torch.zeros(image.tensor.shape[1:])
    nothing = _explanation(model, image, answer, Predicted(), label, zero, "blame", {})
    right = "the answer is right: there is no error"
    nothing = nothing.replace(target=replace(nothing.target, text=right))
    return ErrorReport(
        name=image.source.name,
        model=model.name,
        type="right",
        request=nothing.target.text,
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


def assembled(
    model: VisionModel,
    image: PreparedImage,
    answer: Prediction,
    label: GroundTruth,
    budget: int,
    search: Search,
    regions: Sequence[Examined],
    fixed: Fix | None,
    swapped: dict[str, Any] | None,
    profile: bool,
) -> ErrorReport:
    """Return the report of a search, with what was asked for besides."""
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
        blame_map(search, [one for one in regions if one.verdict != "not verified"]),
        "blame",
        evidence,
    )
    contrast = _explanation(
        model, image, answer, case.target, label, search.maps.signed, "contrast", {}
    )
    contrast = contrast.replace(
        provenance=Metadata({**contrast.provenance, "layers": search.maps.layers})
    )
    return ErrorReport(
        name=image.source.name,
        model=model.name,
        type=case.type,
        request=blame.target.text,
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
        budget=budget,
        additions=swapped,
        profile=_profile(model, image, case.target) if profile else (),
    )


def _flat(one: RegionReport) -> dict[str, Any]:
    return {"removals": ", ".join(f"{name} {r.change:+.2f}" for name, r in one.removals.items())}


def _shown(image: PreparedImage, one: Examined) -> RegionReport:
    mask = _mask(one.mask)
    removals = {name: Removal(r.change, r.right, r.note) for name, r in one.removals.items()}
    return RegionReport(
        mask,
        _box(image, mask),
        float(mask.mean()),
        one.predicted,
        removals,
        one.disagreement,
        one.verdict,
    )


def _found(image: PreparedImage, fixed: Fix) -> FixFound:
    mask = _mask(fixed.removed.mask)
    inputs = fixed.inputs[0].detach().float().cpu().numpy()
    removed = fixed.removed
    return FixFound(
        mask,
        _box(image, mask),
        float(mask.mean()),
        fixed.fill,
        removed.change,
        removed.note,
        inputs,
    )


def _mask(mask: Tensor) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = mask.cpu().numpy()
    found.setflags(write=False)
    return found


def _box(image: PreparedImage, mask: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    left, top, right, bottom = image.frame.to_image(corners).tolist()
    return left, top, right, bottom


def _explanation(
    model: VisionModel,
    image: PreparedImage,
    answer: Prediction,
    target: Target,
    label: GroundTruth,
    values: Tensor,
    method: str,
    evidence: dict[str, Any],
) -> Explanation:
    known = label if isinstance(answer, ClassificationPrediction) else None
    return Explanation(
        values=values.detach().float().cpu().numpy(),
        extent=image.extent,
        image=image.source.pixels,
        target=answer.resolve(target, known)[1],
        method=method,
        unit="logits",
        name=image.source.name,
        evidence=Metadata({"sum": float(values.double().sum()), **evidence}),
        provenance=Metadata(
            method=method,
            model=model.name,
            model_details=model.details,
            weights_sha256=model.digest(),
            image_sha256=image.source.digest,
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


def _profile(model: VisionModel, image: PreparedImage, target: Target) -> tuple[Metadata, ...]:
    from cvx_core import get_explainer

    explainer = get_explainer("activation-error", profile=True)
    [found] = explainer.explain(model, image.tensor[None], target)
    return tuple(found.evidence["layer_profile"])
