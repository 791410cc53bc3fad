"""Finer levels: layers before the last grid that all paths pass, with more positions."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.layer_selection.selection import find_last_grid, has_bypass
from cvx_core.recording.layers.layer import Layer
from cvx_core.recording.layers.layout import Layout

# Layers of one grid that are tested at most; each test is a forward pass of two images.
_TRIED = 8


def find_finer_levels(model: VisionModel, inputs: Tensor, times: int) -> tuple[Layer, ...]:
    """Return the last layer of each finer grid before the last one that all paths pass.

    Found once for each model and input size. A transformer all of whose layers have one grid has
    none.

    Parameters
    ----------
    model, inputs
        The network and prepared images (B, C, H, W).
    times
        How many times finer than the last grid a level is at most, in each direction.

    Returns
    -------
    tuple of Layer
        Coarsest first.

    Raises
    ------
    LayerError
        If the network has no last grid; see `find_last_grid`.

    Examples
    --------
    >>> from cvx_core.recording import find_finer_levels
    >>> from cvx_core.testing import models
    >>> model, inputs = models.convolutional(), models.inputs(1)
    >>> [(layer.name, layer.grid) for layer in find_finer_levels(model, inputs, 4)]
    [('relu#0', (16, 16))]
    """
    with torch.inference_mode(False):
        return model.facts.find(
            lambda: _choose(model, inputs, times), "finer levels", inputs.shape[1:], times
        )


def _choose(model: VisionModel, inputs: Tensor, times: int) -> tuple[Layer, ...]:
    last = find_last_grid(model, inputs)
    by_grid: dict[tuple[int, int], list[Layer]] = {}
    for layer in Layout.of(model, inputs).layers:
        if (layer.module, layer.call) == (last.module, last.call):
            break
        if all(n < m <= times * n for n, m in zip(last.grid, layer.grid, strict=True)):
            by_grid.setdefault(layer.grid, []).append(layer)
    candidates = (layers[: -_TRIED - 1 : -1] for _, layers in sorted(by_grid.items()))
    passed = (
        next((layer for layer in layers if not has_bypass(layer, model, inputs)), None)
        for layers in candidates
    )
    return tuple(layer for layer in passed if layer is not None)
