"""What is measured of one dense network: plain autograd, conservation, and what is left behind."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import CvxError, VisionModel
from cvx_core.explainers.pyramid import spread
from cvx_core.recording import Layer, find_levels
from cvx_core.testing.kits.explainers import assert_state, state_of
from dense.networks import Network, image

LIMIT = 1e-9
"""Of relative differences, in float64."""
LEAST = 1e-6
"""Share of the score that passes the levels: of less, a residual would say nothing."""


def measure(network: Network) -> dict[str, Any]:
    """Return everything that is measured of a network, as JSON values."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    started = time.perf_counter()
    found: dict[str, Any] = {"source": network.source, "name": network.name}
    try:
        model = network.build().to(dtype=torch.float64)
        model.module.eval()
        strong(model.module)
        x = image(network.side)
        model.output(x)  # networks that build what they need on the first image
        before = state_of(model.module)
        found |= _explained(model, x)
    except Exception as error:  # the boundary of one network: its failure is a finding
        return found | {"error": f"{type(error).__name__}: {error}"[:300]}
    try:
        assert_state(before, state_of(model.module))
        found["left"] = True
    except AssertionError as error:
        found["left"] = str(error).splitlines()[0][:200]
    return found | {"seconds": time.perf_counter() - started}


def strong(module: nn.Module) -> None:
    """Draw weights anew, so that what passes a layer is as large as what biases add.

    Detectors begin with weights of .01 and biases of -4.6, of which a map makes a billionth.
    """
    draw = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
        if parameter.ndim > 1:
            values *= parameter[0].numel() ** -0.5  # as large a sum as one input
        else:
            values = parameter.detach().clamp(-1, 1) + 0.1 * values
        parameter.data.copy_(values)


def wrong(found: dict[str, Any]) -> list[str]:
    """Return what is wrong with a measurement, in words."""
    if "error" in found:
        return [found["error"]]
    problems = [] if found["left"] is True else [f"changed: {found['left']}"]
    if not found["cam"] <= LIMIT:
        problems.append(f"Grad-CAM differs by {found['cam']:.0e}")
    if not found["residual"] <= LIMIT:
        problems.append(f"residual {found['residual']:.0e}")
    if not found["share"] >= LEAST:
        problems.append(f"only {found['share']:.0e} of the score passes the levels")
    if found["constant"]:
        problems.append("a constant map")
    return problems


def _explained(model: VisionModel, x: Tensor) -> dict[str, Any]:
    detects = model.task.output_parts > 1
    target = cvx.ClassScore(1) if detects else cvx.Predicted()
    levels = find_levels(model, x, frozenset([0]) if detects else None)
    [made] = cvx.explain(model, x, "activation-error:rule=frozen", target)
    found = {
        "task": model.task.name,
        "layers": [layer.name for layer in levels],
        "grid": list(max((layer.grid for layer in levels), key=lambda grid: grid[0] * grid[1])),
        "cam": _difference(model, x, target, levels),
        "residual": _residual(made),
        "constant": bool(np.ptp(made.values) == 0),
        "share": 1 - float(made.evidence["non_pixel_share"]),
    }
    if detects:
        try:
            [side] = cvx.explain(model, x, "activation-error:rule=frozen", _side(model, x))
            found["side"] = _residual(side) if side.values.any() else "zero"
        except CvxError as error:
            found["side"] = str(error).partition(":")[0]
    return found


def _residual(made: cvx.Explanation) -> float:
    evidence = made.evidence.to_dict()
    rows = evidence.get("levels", [evidence])
    # A level that the target doesn't depend on has none.
    return float(max(row.get("residual", 0.0) for row in rows))


def _side(model: VisionModel, x: Tensor) -> cvx.Target:
    """Return a target about the left side of the largest candidate that begins in the image."""
    [prediction] = model.predict(x)
    boxes = prediction.boxes_of(1)
    # A side that was clipped at the border depends on nothing.
    largest = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + 1e9 * (boxes[:, 0] > 1)).argmax()
    return cvx.BoxScore(cvx.Box(*boxes[largest].tolist()), 1, side="left")


def _difference(
    model: VisionModel, x: Tensor, target: cvx.Target, levels: tuple[Layer, ...]
) -> float:
    """Return how far Grad-CAM is from Selvaraju's formula at all levels, by plain autograd."""
    [made] = cvx.explain(model, x, "grad-cam", target)
    expected = _plain(model, x, target, levels)
    finest = made.values.shape
    whole = torch.stack([spread(level[None].float(), finest)[0] for level in expected]).sum(0)
    gaps = [(whole - torch.tensor(made.values)).abs().max()]
    rows = made.evidence.to_dict().get("levels", [])
    gaps += [abs(row["sum"] - level.sum()) for row, level in zip(rows, expected, strict=False)]
    scale = max(1e-300, *(float(level.abs().max()) for level in expected))
    # Maps are kept in float32: what is compared is what is handed out.
    return max(0.0, float(max(gaps)) / scale - 1e-5)


def _plain(
    model: VisionModel, x: Tensor, target: cvx.Target, levels: tuple[Layer, ...]
) -> list[Tensor]:
    """Return the formula's map (h, w) at each level, from hooks and one backward pass."""
    kept: dict[str, list[Tensor]] = {level.module: [] for level in levels}

    def keep(name: str) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            first = output
            while not isinstance(first, Tensor):
                first = next(iter(first.values() if hasattr(first, "values") else first))
            kept[name].append(first)

        return hook

    [prediction] = model.predict(x)
    seed, _ = prediction.resolve(target)
    handles = [model.module.get_submodule(name).register_forward_hook(keep(name)) for name in kept]
    try:
        output = model.module(x.clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    score = (torch.from_numpy(np.asarray(seed)) * model.read(output)[0]).sum()
    activations = [kept[level.module][level.call] for level in levels]
    gradients = torch.autograd.grad(score, activations, allow_unused=True)
    found = []
    for level, activation, gradient in zip(levels, activations, gradients, strict=True):
        slope = torch.zeros_like(activation) if gradient is None else gradient
        weights = level.positions(slope).mean((2, 3), keepdim=True)
        found.append((weights * level.positions(activation)).sum(1)[0].detach())
    return found
