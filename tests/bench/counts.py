"""Counts of what cvx does beside the network: they don't depend on the machine or its load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cvx_core as cvx

_WAITING = ("aten._local_scalar_dense", "aten.equal", "aten.nonzero", "aten.is_nonzero")
BATCHES = (4, 12)


class _Reads(TorchDispatchMode):
    """Counts the functions that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).startswith(_WAITING)
        return func(*args, **(kwargs or {}))


def python_calls(run: Callable[[], object]) -> int:
    """Return how many Python functions are called."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def device_reads(run: Callable[[], object]) -> int:
    """Return how often the device is waited for."""
    with _Reads() as reads:
        run()
    return reads.count


@dataclass(frozen=True)
class Counts:
    """Python calls and device reads of one call of `explain`, and of each image in it."""

    calls: float
    calls_an_image: float
    reads: float
    reads_an_image: float


def count(model: cvx.VisionModel, name: str, size: int) -> Counts:
    """Count the calls and reads of an explainer, by the difference of two batches."""
    explainer, found = cvx.get_explainer(name), []
    for batch in BATCHES:
        images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        targets = [cvx.ClassScore(i) for i in range(batch)]

        def run(images: torch.Tensor = images, targets: Any = targets) -> None:
            cvx.explain(model, images, explainer, targets)

        run()  # finds the layers
        found.append((python_calls(run), device_reads(run)))
    (calls, reads), (more_calls, more_reads) = found
    step = BATCHES[1] - BATCHES[0]
    an_image, reads_an_image = (more_calls - calls) / step, (more_reads - reads) / step
    return Counts(
        calls - BATCHES[0] * an_image, an_image, reads - BATCHES[0] * reads_an_image, reads_an_image
    )
