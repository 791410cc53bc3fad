"""Model randomization: the dependence of maps on the weights of the network."""

from __future__ import annotations

from typing import Any

from cvx_core import Metadata, MethodError, Predicted, Target, VisionModel
from cvx_core.explainers import run
from cvx_score.checks.randomization import STAGES, Randomization
from cvx_score.methods import Method, try_each


def randomisation(
    model: VisionModel,
    images: Any,
    method: Method,
    targets: list[Target] | None,
    label: Any,
    seed: int,
    memory: int | None,
) -> dict[str, Any]:
    """Return the parts of a `Score`: the similarity to maps of random networks.

    Adebayo et al. 2018 (arXiv:1810.03292), with `cvx_score.checks.randomization`. The value is the
    largest mean rank correlation over the stages, on which the verdict is based; for maps that
    don't depend on the target, the correlation with all weights random.
    """
    explanations = method.each()
    if method.explainer is not None:
        explanations = run(
            model,
            images,
            [method.explainer],
            targets or [Predicted()] * len(method.maps),
            label,
            seed,
            budget=memory,
            checks=[Randomization()],
        )

    def read(i: int) -> tuple[float, tuple[float | None, ...], str]:
        explanation = explanations[i]
        sanity = None if explanation is None else explanation.evidence.get("sanity")
        if explanation is None or sanity is None:
            raise MethodError(
                "The map was not compared with maps of random networks.",
                "Pass the explainer, or explain with sanity=True.",
            )
        by_stage = sanity["correlation"]
        counted = STAGES if explanation.evidence.get("class_specific", True) else ["all"]
        if not all(stage in by_stage for stage in counted):
            raise MethodError(str(sanity["reason"]))
        largest = max(by_stage[stage] for stage in counted)
        return largest, tuple(by_stage.get(stage) for stage in STAGES), sanity["verdict"]

    found, reasons = try_each(len(explanations), read)
    values, curves, verdicts = zip(*(one or (None, (), None) for one in found), strict=True)
    return {
        "values": values,
        "reasons": reasons,
        "quantity": "correlation",
        "shares": tuple(STAGES),
        "curves": curves,
        "passes": None,
        "details": Metadata({"verdicts": verdicts}),
    }
