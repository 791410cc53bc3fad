"""Counterfactual features: positions of another image that correct the prediction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core import MethodError, Requirements
from cvx_core.explainers import in_pieces
from cvx_core.recording import PartialForward, find_last_grid, open_recording
from cvx_core.tasks import ModelOutput
from cvx_why.search.perturbations import PerturbationRunner


def find_counterfactual(runner: PerturbationRunner, other: Tensor) -> dict[str, Any]:
    """Return the positions of a layer that correct the prediction if taken from another image.

    At the last spatial layer that all paths to the output pass, spatial positions of the image are
    replaced by positions of the other, the most promising pair first (Goyal et al., "Counterfactual
    Visual Explanations", ICML 2019, with a first-order estimate for each pair): 1, 2, 4, ... of
    them. Only the part of the network behind the layer is run.

    Parameters
    ----------
    runner
        The image and its mistake.
    other
        (1, C, H, W), a prepared image of the true class.

    Returns
    -------
    dict
        ``layer``, ``grid``; ``positions``: each ``position`` of the image and its ``source`` in the
        other image, (row, column), or None if no tested number suffices; ``changes`` of the margin
        by the number of replaced positions.

    Raises
    ------
    MethodError
        If the model is no classifier.
    """
    task = runner.model.task
    if not task.whole_image:
        raise MethodError(
            f"reference_image requires a classifier, got {runner.model.name}, a model for {task}.",
            "Omit reference_image (--reference on the command line).",
        )
    layer = find_last_grid(runner.model, runner.inputs)
    with open_recording(runner.model, runner.inputs, Requirements(layer.name)) as recording:
        raw, slope = (
            recording.raw(layer.name),
            recording.gradients(runner.seed.to(recording.logits)[None], layer.name)[0],
        )
    with open_recording(runner.model, other, Requirements(layer.name)) as recording:
        there = layer.positions(recording.raw(layer.name))[0].flatten(1)
    here, slope = layer.positions(raw)[0].flatten(1), layer.positions(slope)[0].flatten(1)
    # First-order change of the margin if position i is replaced by position j of the other image.
    effect = slope.T @ there - (slope * here).sum(0)[:, None]
    best = effect.min(dim=1)
    order = best.values.argsort()
    counts = [2**k for k in range((len(order) - 1).bit_length())] + [len(order)]
    # Indices of the elements of each position in the layer's own memory layout.
    numbers = torch.arange(raw.numel(), device=raw.device).view_as(raw)
    elements = layer.positions(numbers)[0].flatten(1)
    values = raw.flatten().repeat(len(counts), 1)
    for row, n in zip(values, counts, strict=True):
        row[elements[:, order[:n]]] = there[:, best.indices[order[:n]]]
    values = values.view(-1, *raw.shape[1:])
    suffix = PartialForward(runner.model, runner.inputs, layer)

    def run(start: int, stop: int) -> Tensor:
        return suffix.logits(values[start:stop], torch.zeros(stop - start, dtype=torch.long))

    outputs = ModelOutput(torch.cat([*in_pieces(len(counts), runner.at_once, run)]))
    predictions = runner.model.predictions(outputs, [runner.image.frame] * len(counts))
    judged = [runner.mistake.judge(one) for one in predictions]
    enough = next((n for n, one in zip(counts, judged, strict=True) if one.right), None)

    def row_column(position: Tensor) -> list[int]:
        return list(divmod(int(position), layer.grid[1]))

    return {
        "layer": layer.name,
        "grid": list(layer.grid),
        "positions": enough
        and [
            {"position": row_column(i), "source": row_column(best.indices[i])}
            for i in order[:enough]
        ],
        "changes": {
            str(n): one.margin - runner.mistake.margin
            for n, one in zip(counts, judged, strict=True)
        },
    }
