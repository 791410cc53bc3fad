"""Completeness: whether a map adds up to the difference that it explains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cvx_core import UsageError, VisionModel
from cvx_score.forward import in_shapes, prepare
from cvx_score.measures.curves import Baseline, baselines
from cvx_score.measures.perturbations import Trials
from cvx_score.measures.pixel_order import Values
from cvx_score.targets import Questions, Truths, ask


@dataclass(frozen=True, eq=False)
class Completeness:
    """How far maps are from adding up, for each image.

    Attributes
    ----------
    sums
        float64 (B,): of the maps' values.
    differences
        float64 (B,): of the seeded logits, image less baseline.
    scores
        float64 (B,): the gap between them over the larger of their magnitudes, 0 (complete) or
        more; at most 2.
    passes
        Images that went through the network.
    """

    sums: Values
    differences: Values
    scores: Values
    passes: int


def completeness(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Questions = None,
    label: Truths = None,
    *,
    baseline: Baseline = "zero",
    memory: int | None = None,
) -> Completeness:
    """Return how far maps are from the difference between an image's logit and a baseline's.

    The axiom of Sundararajan et al. 2017 (arXiv:1703.01365). The residual of explanations that
    know what they must add up to is in their evidence, and `cvx_score.score` takes that.

    Parameters
    ----------
    model, images, target, label
        See `cvx_score.insertion`.
    maps
        One for each image, of any shape and at the resolution that they were made at: enlarged
        maps have another sum.
    baseline
        What the maps explain the difference to.
    """
    prepared = prepare(model, images)
    several = list(maps)
    if len(several) != len(prepared):
        raise UsageError(
            f"There are {len(prepared)} images and {len(several)} maps.", "Give one for each."
        )
    asked = ask(model, prepared, target, label, "logit")
    differences, passes = [], len(prepared)
    for chosen in in_shapes(prepared):
        group = [asked[i] for i in chosen]
        others = baselines(baseline, torch.stack([one.image.tensor for one in group]))
        trials = Trials(model, group, memory)
        found, _ = trials.run(list(range(len(group))), partial(_rows, others))
        passes += trials.passes
        differences += [one.record.score - float(f) for one, f in zip(group, found, strict=True)]
    sums = [_sum(values) for values in several]
    added, due = np.array(sums), np.array(differences)
    largest = np.maximum(np.abs(added), np.abs(due))
    gaps = np.divide(np.abs(added - due), largest, out=np.zeros_like(due), where=largest > 0)
    return Completeness(added, due, gaps, passes)


def _rows(inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    return inputs[start:stop]


def _sum(values: Any) -> float:
    array = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    return float(np.asarray(array, dtype=np.float64).sum())
