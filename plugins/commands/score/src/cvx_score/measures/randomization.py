"""Model randomisation: whether maps depend on what the network has learned."""

from __future__ import annotations

from typing import Any

from cvx_core import Metadata, MethodError, Predicted, VisionModel
from cvx_core.explainers import run
from cvx_score.checks.randomization import STAGES, Randomization
from cvx_score.methods import Contender


def randomisation(
    model: VisionModel,
    images: Any,
    one: Contender,
    asked: Any,
    label: Any,
    seed: int,
    memory: int | None,
) -> dict[str, Any]:
    """Return the parts of a `Score`: how alike maps of random networks are.

    Adebayo et al. 2018 (arXiv:1810.03292), as the core's sanity check does it. The value is the
    largest mean rank correlation over the stages, which the verdict is about; of maps that don't
    depend on the question, that with the whole network random.
    """
    explanations = one.each()
    if one.explainer is not None:
        asked = asked or [Predicted()] * len(one.maps)
        explanations = run(
            model,
            images,
            [one.explainer],
            asked,
            label,
            seed,
            budget=memory,
            checks=[Randomization()],
        )
    values: list[float | None] = []
    curves: list[tuple[float | None, ...]] = []
    verdicts: list[str | None] = []
    reasons = []
    for explanation in explanations:
        sanity = None if explanation is None else explanation.evidence.get("sanity")
        try:
            if explanation is None or sanity is None:
                raise MethodError(
                    "Whether the map depends on what the network has learned was not checked.",
                    "Give the explainer, or explain with sanity=True.",
                )
            by_stage = dict(sanity["correlation"])
            counted = STAGES if explanation.evidence.get("class_specific", True) else ["all"]
            if not all(stage in by_stage for stage in counted):
                raise MethodError(str(sanity["reason"]))
            values.append(max(by_stage[stage] for stage in counted))
            curves.append(tuple(by_stage.get(stage) for stage in STAGES))
            verdicts.append(sanity["verdict"])
            reasons.append("")
        except MethodError as error:
            values.append(None)
            curves.append(())
            verdicts.append(None)
            reasons.append(str(error))
    return {
        "values": tuple(values),
        "reasons": tuple(reasons),
        "quantity": "correlation",
        "shares": tuple(STAGES),
        "curves": tuple(curves),
        "passes": None,
        "details": Metadata({"verdicts": verdicts}),
    }
