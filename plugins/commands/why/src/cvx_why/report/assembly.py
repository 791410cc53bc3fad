"""Assembly of a report from the results of a search: masks, boxes, explanations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvx_core import Explanation, Metadata, VisionModel
from cvx_core.images import PreparedImage
from cvx_core.tasks import GroundTruth, Predicted, Prediction, Target
from cvx_why.report.error_report import ErrorReport
from cvx_why.search.fix import FixReport
from cvx_why.search.perturbations import PassCounter
from cvx_why.search.preparations import Preparation
from cvx_why.search.regions import RegionReport, blame_map, control_change, spread_share
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
    regions: Sequence[RegionReport],
    fix: FixReport | None,
    preparations: tuple[Preparation, ...],
    counterfactual: dict[str, Any] | None,
    profile: bool,
) -> ErrorReport:
    """Return the report of a search."""
    mistake, passes = search.runner.mistake, search.runner.passes
    control = control_change(search)
    evidence: dict[str, Any] = {
        "margin": mistake.margin,
        "control_change": control,
        "regions": [{**one.to_dict(), "fills": _fill_text(one)} for one in regions],
        "fix": fix.to_dict() if fix else None,
        "passes": passes.images,
        "backward_passes": passes.backward_passes,
    }
    blamed = blame_map(search, [one for one in regions if one.verdict != "not verified"])
    subject = model, image, prediction, mistake.target, label
    blame = _explanation(*subject, blamed, "blame", evidence)
    contrast = _explanation(*subject, search.contrast.signed, "contrast", {})
    return ErrorReport(
        name=image.source.name,
        model=model.name,
        type=mistake.type,
        target=blame.target.text,
        predicted=mistake.predicted,
        true=mistake.true,
        loss=mistake.loss,
        margin=mistake.margin,
        regions=tuple(regions),
        control_change=control,
        fix=fix,
        contrast=contrast,
        blame=blame,
        passes=passes.images,
        backward_passes=passes.backward_passes,
        budget=budget,
        spread=spread_share(search, regions),
        preparations=preparations,
        counterfactual=counterfactual,
        profile=_profile(model, image, mistake.target) if profile else (),
    )


def _fill_text(one: RegionReport) -> str:
    return ", ".join(f"{name} {fill.change:+.2f}" for name, fill in one.fills.items())


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
    record = prediction.resolve(target, label if model.task.whole_image else None)[1]
    return Explanation(
        values=values.detach().float().cpu().numpy(),
        extent=image.extent,
        image=image.source.pixels,
        target=record,
        method=method,
        unit=record.unit or model.task.unit,
        name=image.source.name,
        evidence=Metadata({"sum": float(values.double().sum()), **evidence}),
        provenance=Metadata(method=method, **model.provenance(image)),
    )


def _profile(model: VisionModel, image: PreparedImage, target: Target) -> tuple[Metadata, ...]:
    from cvx_core import get_explainer

    explainer = get_explainer("activation-error", rule="frozen", profile=True)
    [found] = explainer.explain(model, image.tensor[None], target)
    return tuple(found.evidence["layer_profile"])
