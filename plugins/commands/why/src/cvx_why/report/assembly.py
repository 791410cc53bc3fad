"""Assembly of a report from the results of a search: masks, boxes, explanations."""

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
from cvx_core.tasks import GroundTruth, Predicted, Prediction, Target
from cvx_why.report.data import FillReport, FixReport, RegionReport
from cvx_why.report.error_report import ErrorReport
from cvx_why.search.attribution import blame_map
from cvx_why.search.fix import Fix
from cvx_why.search.perturbations import PassCounter
from cvx_why.search.regions import RegionResult, control_change
from cvx_why.search.search import Search


def report_correct(
    model: VisionModel,
    image: PreparedImage,
    prediction: Prediction,
    label: GroundTruth,
    passes: PassCounter,
    budget: int,
) -> ErrorReport:
    """Return the report of a correct prediction, without regions."""
    zero = torch.zeros(image.tensor.shape[1:])
    blame = _explanation(model, image, prediction, Predicted(), label, zero, "blame", {})
    text = "the prediction is correct: there is no mistake"
    blame = blame.replace(target=replace(blame.target, text=text))
    true = blame.target.label
    probability = true.probability if true else None
    return ErrorReport(
        name=image.source.name,
        model=model.name,
        type="correct",
        target=text,
        predicted=true,
        true=true,
        loss=0.0 if probability is None else float(-np.log(max(probability, 1e-300))),
        margin=0.0,
        regions=(),
        control_change=0.0,
        fix=None,
        contrast=blame.replace(method="contrast"),
        blame=blame,
        passes=passes.images,
        backward_passes=passes.backward_passes,
        budget=budget,
    )


def assemble_report(
    model: VisionModel,
    image: PreparedImage,
    prediction: Prediction,
    label: GroundTruth,
    budget: int,
    search: Search,
    regions: Sequence[RegionResult],
    fix: Fix | None,
    counterfactual: dict[str, Any] | None,
    profile: bool,
) -> ErrorReport:
    """Return the report of a search."""
    mistake, passes = search.runner.mistake, search.runner.passes
    shown = tuple(_region_report(image, one) for one in regions)
    found = None if fix is None else _fix_report(image, fix)
    control = control_change(search)
    evidence: dict[str, Any] = {
        "margin": mistake.margin,
        "control_change": control,
        "regions": [{**one.to_dict(), "fills": _fill_text(one)} for one in shown],
        "fix": found.to_dict() if found else None,
        "passes": passes.images,
        "backward_passes": passes.backward_passes,
    }
    blamed = blame_map(search, [one for one in regions if one.verdict != "not verified"])
    subject = model, image, prediction, mistake.target, label
    blame = _explanation(*subject, blamed, "blame", evidence)
    contrast = _explanation(*subject, search.maps.signed, "contrast", {})
    contrast = contrast.replace(
        provenance=Metadata({**contrast.provenance, "layers": search.maps.layers})
    )
    return ErrorReport(
        name=image.source.name,
        model=model.name,
        type=mistake.type,
        target=blame.target.text,
        predicted=mistake.predicted,
        true=mistake.true,
        loss=mistake.loss,
        margin=mistake.margin,
        regions=shown,
        control_change=control,
        fix=found,
        contrast=contrast,
        blame=blame,
        passes=passes.images,
        backward_passes=passes.backward_passes,
        budget=budget,
        counterfactual=counterfactual,
        profile=_profile(model, image, mistake.target) if profile else (),
    )


def _fill_text(one: RegionReport) -> str:
    return ", ".join(f"{name} {fill.change:+.2f}" for name, fill in one.fills.items())


def _region_report(image: PreparedImage, one: RegionResult) -> RegionReport:
    mask = _mask(one.mask)
    return RegionReport(
        mask,
        _box(image, mask),
        float(mask.mean()),
        one.predicted_change,
        {name: FillReport(each.change, each.right, each.note) for name, each in one.fills.items()},
        one.disagreement,
        one.verdict,
    )


def _fix_report(image: PreparedImage, fix: Fix) -> FixReport:
    mask = _mask(fix.perturbation.mask)
    return FixReport(
        mask,
        _box(image, mask),
        float(mask.mean()),
        fix.fill,
        fix.perturbation.change,
        fix.perturbation.note,
        fix.inputs[0].detach().float().cpu().numpy(),
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
    prediction: Prediction,
    target: Target,
    label: GroundTruth,
    values: Tensor,
    method: str,
    evidence: dict[str, Any],
) -> Explanation:
    known = label if model.task.whole_image else None
    return Explanation(
        values=values.detach().float().cpu().numpy(),
        extent=image.extent,
        image=image.source.pixels,
        target=prediction.resolve(target, known)[1],
        method=method,
        unit=model.task.unit,
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
