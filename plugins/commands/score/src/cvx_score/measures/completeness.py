"""Completeness: whether a map sums to the difference that it explains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cvx_core import VisionModel
from cvx_score.forward import check_count, in_shapes, prepare
from cvx_score.measures.curves import Baseline, baselines
from cvx_score.measures.perturbations import PerturbationRunner
from cvx_score.measures.pixel_order import Values
from cvx_score.targets import Labels, Targets, resolve_targets


@dataclass(frozen=True, eq=False)
class Completeness:
    """The completeness gap of maps, for each image.

    Attributes
    ----------
    sums
        float64 (B,): sums of the maps.
    differences
        float64 (B,): seeded logit of the image minus that of the baseline.
    scores
        float64 (B,): the gap between them over the larger of their magnitudes, 0 (complete) to 2.
    passes
        Images in forward passes.
    """

    sums: Values
    differences: Values
    scores: Values
    passes: int


def completeness(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Targets = None,
    label: Labels = None,
    *,
    baseline: Baseline = "zero",
    memory: int | None = None,
) -> Completeness:
    """Return the gap between a map's sum and the difference of the logits of image and baseline.

    The axiom of Sundararajan et al. 2017 (arXiv:1703.01365). Explanations with a residual in their
    evidence are not measured again by `cvx_score.score`.

    Parameters
    ----------
    model, images, target, label
        See `cvx_score.insertion`.
    maps
        One for each image, of any shape, at native resolution: enlarged maps have another sum.
    baseline
        The baseline of the difference.
    """
    prepared = prepare(model, images)
    several = list(maps)
    check_count(several, prepared)
    targets = resolve_targets(model, prepared, target, label, "logit")
    differences, passes = [], len(prepared)
    for chosen in in_shapes(prepared):
        group = [targets[i] for i in chosen]
        others = baselines(baseline, torch.stack([one.image.tensor for one in group]))
        runner = PerturbationRunner(model, group, memory)
        found, _ = runner.run(range(len(group)), partial(_rows, others))
        passes += runner.passes
        differences += [one.record.score - float(f) for one, f in zip(group, found, strict=True)]
    sums = np.array([_sum(values) for values in several])
    expected = np.array(differences)
    largest = np.maximum(np.abs(sums), np.abs(expected))
    gaps = np.divide(
        np.abs(sums - expected), largest, out=np.zeros_like(expected), where=largest > 0
    )
    return Completeness(sums, expected, gaps, passes)


def _rows(inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    return inputs[start:stop]


def _sum(values: Any) -> float:
    array = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    return float(np.asarray(array, dtype=np.float64).sum())
