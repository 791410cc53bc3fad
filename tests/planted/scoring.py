"""Run every method on every case of a network with a shortcut, and on its twin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from cvx_why import ErrorReport
from cvx_why.search.inpainting import inpaint
from planted.measures import hit, rank_accuracy, relevance_mass, top
from planted.methods import Method
from planted.networks import SHORTCUT, Case, Pair
from torch import Tensor

import cvx_core as cvx
from cvx_core import VisionModel

Row = dict[str, float]
"""A method's measures, each the mean over the cases, with their number."""


def score(pair: Pair, cases: Iterable[Case], methods: Mapping[str, Method]) -> dict[str, Row]:
    """Return the measures of each method; those of ``cvx why`` hold what its reports say too."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        for name, method in methods.items():
            for measure, value in _measured(pair, case, method).items():
                found[name][measure].append(value)
    return {
        name: {"cases": len(row["hit"]), **{key: fmean(values) for key, values in row.items()}}
        for name, row in found.items()
    }


def _measured(pair: Pair, case: Case, method: Method) -> Row:
    began = perf_counter()
    with Counting(pair.shortcut) as passes:
        answer = method(pair.shortcut, case.inputs, SHORTCUT, case.label)
    seconds = perf_counter() - began
    values = _map(answer)
    twin = method(pair.twin, case.inputs, SHORTCUT, case.label)
    without = inpaint(case.inputs, top(values, 0.05)[None, None])
    row = {
        "passes": float(passes[0]),
        "seconds": seconds,
        "hit": float(hit(values, case.cause)),
        "hit, tolerant": float(hit(values, case.cause, case.inputs.shape[2] // 15)),
        "mass": relevance_mass(values, case.cause),
        "rank accuracy": rank_accuracy(values, case.cause),
        "right at 5 %": _right(pair.shortcut, without, case),
        "false alarm": float(hit(_map(twin), case.cause)),
    }
    if isinstance(answer, ErrorReport) and isinstance(twin, ErrorReport):
        row |= _reported(pair, case, answer, twin)
    return row


def _map(answer: Tensor | ErrorReport) -> Tensor:
    return torch.tensor(answer.blame.values) if isinstance(answer, ErrorReport) else answer


def _reported(pair: Pair, case: Case, report: ErrorReport, twin: ErrorReport) -> Row:
    fixed = report.fix is not None and _right(
        pair.shortcut, torch.from_numpy(report.fix.inputs)[None], case
    )
    asked = cvx.why(pair.twin, case.inputs, case.label)
    return {
        "right after the fix": float(fixed),
        "share of the fix": report.fix.share if report.fix is not None else 1.0,
        "verified": float(any(one.verdict == "verified" for one in report.regions)),
        "the twin blames something": float(bool(twin.blamed)),
        "false alarm, as asked": float(hit(_map(asked), case.cause)),
    }


def _right(model: VisionModel, inputs: Tensor, case: Case) -> float:
    return float(model.logits(inputs).argmax() == case.label)


class Counting:
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
