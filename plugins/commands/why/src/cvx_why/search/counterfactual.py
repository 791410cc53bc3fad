"""What would have to be added: features of another image that make the answer right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core import MethodError, Requirements
from cvx_core.explainers import in_pieces
from cvx_core.recording import PartialForward, find_last_grid, open_recording
from cvx_core.tasks import ClassificationPrediction
from cvx_why.search.perturbations import Trials


def additions(trials: Trials, other: Tensor) -> dict[str, Any]:
    """Return which cells of a layer, taken from another image, make the answer right.

    At the last grid that everything passes, cells of the image are exchanged for cells of the
    other, from any place in it, the most promising pair first (Goyal et al., "Counterfactual
    Visual Explanations", ICML 2019, with the gain of a pair to first order): 1, 2, 4, ... of
    them, of which only the part of the network behind the layer is run.

    Parameters
    ----------
    trials
        The image and its error.
    other
        (1, C, H, W), an image of the true class as the network takes it.

    Returns
    -------
    dict
        ``layer``, ``grid``; ``cells``: ``place`` in the image and where in the other it was
        ``taken_from``, (row, column) each, or None if no number tried was enough; ``changes``: of
        the margin, by how many cells were exchanged.

    Raises
    ------
    MethodError
        If the model is no classifier.
    """
    if trials.model.task != "classification":
        raise MethodError(
            f"Features of a reference are exchanged in classifiers, and {trials.model.name} is "
            f"for {trials.model.task}.",
            "Leave the reference image out.",
        )
    place = find_last_grid(trials.model, trials.inputs)
    with open_recording(trials.model, trials.inputs, Requirements(place.name)) as recording:
        raw, slope = (
            recording.raw(place.name),
            recording.gradients(trials.seed.to(recording.logits)[None], place.name)[0],
        )
    with open_recording(trials.model, other, Requirements(place.name)) as recording:
        there = place.positions(recording.raw(place.name))[0].flatten(1)
    here, slope = place.positions(raw)[0].flatten(1), place.positions(slope)[0].flatten(1)
    # To first order, exchanging cell i for the other's cell j changes the margin by this.
    effect = slope.T @ there - (slope * here).sum(0)[:, None]
    best = effect.min(dim=1)
    order = best.values.argsort()
    counts = [2**k for k in range((len(order) - 1).bit_length())] + [len(order)]
    # Which elements of the layer's own layout, whatever it is, belong to each cell.
    numbers = torch.arange(raw.numel(), device=raw.device).view_as(raw)
    elements = place.positions(numbers)[0].flatten(1)
    values = raw.flatten().repeat(len(counts), 1)
    for row, n in zip(values, counts, strict=True):
        row[elements[:, order[:n]]] = there[:, best.indices[order[:n]]]
    values = values.view(-1, *raw.shape[1:])
    suffix = PartialForward(trials.model, trials.inputs, place)

    def run(start: int, stop: int) -> Tensor:
        return suffix.logits(values[start:stop], torch.zeros(stop - start, dtype=torch.long))

    outputs = torch.cat([*in_pieces(len(counts), trials.at_once, run)]).cpu().double().numpy()
    judged = [
        trials.case.judge(ClassificationPrediction(one, trials.model.classes)) for one in outputs
    ]
    enough = next((n for n, one in zip(counts, judged, strict=True) if one.right), None)

    def where(cell: Tensor) -> list[int]:
        return list(divmod(int(cell), place.grid[1]))

    return {
        "layer": place.name,
        "grid": list(place.grid),
        "cells": enough
        and [{"place": where(i), "taken_from": where(best.indices[i])} for i in order[:enough]],
        "changes": {
            str(n): one.margin - trials.case.margin for n, one in zip(counts, judged, strict=True)
        },
    }
