"""Run every method on every case of a network with a shortcut, and on its twin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import torch
from cvx_why.fills import inpaint
from planted.measures import hit, rank_accuracy, relevance_mass, top
from planted.methods import Method
from planted.networks import SHORTCUT, Case, Pair

import cvx_core as cvx
from cvx_core import VisionModel

Row = dict[str, float]
"""A method's measures, each the mean over the cases."""


def score(pair: Pair, cases: Iterable[Case], methods: Mapping[str, Method]) -> dict[str, Row]:
    """Return the measures of each method; those of ``cvx why`` hold what its reports say too."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        tolerance = case.inputs.shape[2] // 15
        for name, method in methods.items():
            row = found[name]
            with _Counting(pair.shortcut) as passes:
                values = method(pair.shortcut, case.inputs, SHORTCUT, case.label)
            row["passes"].append(passes[0])
            row["hit"].append(hit(values, case.cause))
            row["hit, tolerant"].append(hit(values, case.cause, tolerance))
            row["mass"].append(relevance_mass(values, case.cause))
            row["rank accuracy"].append(rank_accuracy(values, case.cause))
            without = inpaint(case.inputs, top(values, 0.05)[None, None])
            row["right at 5 %"].append(_right(pair.shortcut, without, case))
            twin = method(pair.twin, case.inputs, SHORTCUT, case.label)
            row["false alarm"].append(hit(twin, case.cause))
        if "cvx why" in methods:
            for measure, value in _reports(pair, case).items():
                found["cvx why"][measure].append(value)
    means = {name: {k: fmean(values) for k, values in row.items()} for name, row in found.items()}
    if "cvx why" in means:
        means["cvx why"]["cases"] = len(found["cvx why"]["hit"])
    return means


def _reports(pair: Pair, case: Case) -> Row:
    report = cvx.why(pair.shortcut, case.inputs, case.label)
    fixed = report.fix is not None and _right(
        pair.shortcut, torch.from_numpy(report.fix.inputs)[None], case
    )
    twin = cvx.why(pair.twin, case.inputs, case.label)
    return {
        "right after the fix": float(fixed),
        "share of the fix": report.fix.share if report.fix is not None else 1.0,
        "verified": float(any(one.verdict == "verified" for one in report.regions)),
        "false alarm, as asked": float(hit(torch.tensor(twin.blame.values), case.cause)),
    }


def _right(model: VisionModel, inputs: torch.Tensor, case: Case) -> float:
    return float(model.logits(inputs).argmax() == case.label)


class _Counting:
    """Count the images that go through a network."""

    def __init__(self, model: VisionModel) -> None:
        self.module = model.module

    def __enter__(self) -> list[int]:
        seen = [0]

        def count(_module: Any, args: tuple[Any, ...]) -> None:
            seen[0] += len(args[0])

        self.handle = self.module.register_forward_pre_hook(count)
        return seen

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()
