"""Inputs of the network, compared with those that it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from cvx_core import CvxError, VisionModel
from cvx_diagnose.analysis.metrics.statistics import shuffle_ids
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import OK
from cvx_diagnose.run.work import DiagnosisWork

_SAMPLE = 128
"""Number of inputs that are looked at."""

FAR = 1.0
"""Mean distance of the channels' means from the running ones, in running standard deviations."""

RATIO = 2.0
"""Ratio of standard deviations from which inputs are far from those of training."""

_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_LARGE, _SMALL = 10.0, 0.02
"""Mean or standard deviation above and below which no usual normalization lies."""


def input_statistics(model: VisionModel, batches: Sequence[Tensor]) -> dict[str, Any] | None:
    """Return statistics of a sample of the network's inputs (C, H, W); None if there is none.

    Returns
    -------
    dict
        ``count`` of inputs, ``mean`` and ``std`` of their values, and of the first layer of batch
        normalization its ``layer``, ``distance`` (mean over the channels of the distance from the
        running mean, in running standard deviations) and ``ratio`` (median over the channels of the
        standard deviation by the running one); None where there is no such layer.
    """
    if not batches:
        return None
    values = torch.cat([one.double().flatten() for one in batches])
    found: dict[str, Any] = {
        "count": len(batches),
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
        "layer": None,
        "distance": None,
        "ratio": None,
    }
    norms = {n: m for n, m in model.module.named_modules() if isinstance(m, _NORM)}
    norms = {n: m for n, m in norms.items() if _is_trained(m)}
    sums: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Any:
        def see(_: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0].detach().double().transpose(0, 1).flatten(1)
            sums.setdefault(name, []).append(
                torch.stack([x.mean(1), (x**2).mean(1), torch.ones_like(x[:, 0])]).cpu()
            )

        return see

    with ExitStack() as hooks:
        for name, module in norms.items():
            hooks.callback(module.register_forward_pre_hook(hook(name)).remove)
        try:
            for one in batches:
                model.output(one[None])
        except CvxError:
            return found
    if not sums:
        return found
    # The first that ran: hooks are called in the order of the forward pass.
    name = next(iter(sums))
    norm: Any = norms[name]
    total = torch.stack(sums[name]).sum(0)
    mean, square = total[0] / total[2], total[1] / total[2]
    spread = (square - mean**2).clamp_min(0).sqrt()
    usual = norm.running_var.detach().double().cpu().add(norm.eps).sqrt()
    distance = (mean - norm.running_mean.detach().double().cpu()).abs() / usual
    return found | {
        "layer": name,
        "distance": float(distance.mean()),
        "ratio": float((spread / usual).median()),
    }


def _is_trained(norm: Any) -> bool:
    """Return whether a layer has running statistics other than those that it begins with."""
    if norm.running_mean is None or norm.running_var is None:
        return False
    return bool((norm.running_mean != 0).any()) or bool((norm.running_var != 1).any())


def far_inputs(found: dict[str, Any]) -> str:
    """Return in which way inputs are far from those that the network was made for; empty if not."""
    if found["layer"] is not None:
        distance, ratio = found["distance"], found["ratio"]
        if distance <= FAR and 1 / RATIO <= ratio <= RATIO:
            return ""
        return (
            f"at {found['layer']}, the first batch normalization, the means of the channels are "
            f"{distance:.1f} standard deviations from those of training, and their standard "
            f"deviations {ratio:.2g} times as large"
        )
    mean, std = found["mean"], found["std"]
    if abs(mean) <= _LARGE and _SMALL <= std <= _LARGE:
        return ""
    return (
        f"their values have a mean of {mean:.3g} and a standard deviation of {std:.3g}, where "
        "usual normalizations give about 0 and 1"
    )


def sample_inputs(run: Run, work: DiagnosisWork) -> tuple[list[Tensor], list[int]]:
    """Return inputs (C, H, W) of a sample that depends on the rows alone, and their labels.

    -1 where there is no label. What can't be read any more is left out.
    """
    names = ["id", "status", *(["label"] if "label" in run.schema.names else [])]
    rows = [row for block in run.blocks(names) for row in block.to_pylist()]
    # An input that can't be decoded may end this process.
    readable = [k for k, row in enumerate(rows) if row["status"] == OK]
    found, classes = [], []
    for position in sorted(shuffle_ids(readable)[:_SAMPLE]):
        with suppress(CvxError):
            decoded = work.decode(work.manifest.find(rows[position]["id"]))
            tensor = torch.from_numpy(decoded.values)
            found.append(tensor.to(work.model.device, work.model.dtype))
            label = rows[position].get("label")
            classes.append(-1 if label is None else int(label))
    return found, classes
