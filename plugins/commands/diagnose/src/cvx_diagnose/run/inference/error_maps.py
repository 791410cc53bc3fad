"""Maps of errors at the last feature map, for a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import (
    Error,
    Margin,
    Mistake,
    Requirements,
    Target,
    VisionModel,
    get_explainer,
    get_task,
)
from cvx_core.explainers import (
    ExplainRequest,
    ImageTargets,
    SharedRecordings,
    at_all_levels,
    spread,
)
from cvx_core.recording import find_levels
from cvx_diagnose.run.plan import Plan


def error_targets(plan: Plan, mistake: Mistake | None) -> list[Target]:
    """Return the targets of an error's maps; a classifier's do not depend on the mistake."""
    if mistake is None or get_task(plan.task).exclusive:
        return [Margin(), Error()]
    return [mistake.target]


def error_maps(
    model: VisionModel, plan: Plan, inputs: Tensor, wrong: Sequence[ImageTargets]
) -> list[dict[str, Any]]:
    """Return the maps of errors and the activations under them, for each image.

    A map is the activation error with frozen gates (`cvx_activation_error.ActivationError`) of the
    margin, and of e = p - 1_y where the model classifies. The activations are averaged with the
    positive part of the margin's map as weights: what supports the wrong prediction. The same is
    computed at the plan's fine layer, with the margin's map there.

    Parameters
    ----------
    inputs
        (B, C, H, W), of images with an error.
    wrong
        Their `error_targets`, with ground truth and frame.

    Raises
    ------
    UnknownComponentError
        If cvx-activation-error is not installed.
    """
    layers = find_levels(model, inputs)
    # With one level, by its name the recording is found again.
    layer = layers[0].name if len(layers) == 1 else "auto"
    single = get_explainer("activation-error", rule="frozen", layer=layer, verify=False)
    explainer = at_all_levels(single, model, inputs)
    fine = None
    if plan.fine_layer is not None:
        fine = get_explainer("activation-error", rule="frozen", layer=plan.fine_layer, verify=False)
    wanted = [*explainer.recordings(), *(fine.recordings() if fine else ())]
    recordings = SharedRecordings(model, inputs, wanted)
    try:
        attributions = explainer.attribute(ExplainRequest(recordings, wrong))
        maps = [one.values for one in attributions]
        names = [layer.name for layer in layers]
        recording = recordings.recording(Requirements(*names, gates="frozen"))
        under = torch.cat([_under(maps[0], recording.activation(name)) for name in names], 1)
        features = {"error_features": under.float().cpu().numpy()}
        if fine is not None and plan.fine_layer is not None:
            margins = [replace(one, targets=[Margin()]) for one in wrong]
            [near] = fine.attribute(ExplainRequest(recordings, margins))
            recording = recordings.recording(Requirements(plan.fine_layer, gates="frozen"))
            under = _under(near.values, recording.activation(plan.fine_layer))
            features["fine_features"] = under.float().cpu().numpy()
    finally:
        recordings.close()
    assert plan.map_shape is not None
    fitted = [_halves(values, plan.map_shape) for values in maps]
    columns = ("margin_map", "error_map")[: len(fitted)]
    return [
        {name: values[i] for name, values in zip(columns, fitted, strict=True)}
        | {name: values[i] for name, values in features.items()}
        for i in range(len(wrong))
    ]


def _under(values: Tensor, activation: Tensor) -> Tensor:
    """Return activations averaged with the positive part of maps as weights, (B, C)."""
    h, w = activation.shape[2:]
    weights = spread(values.clamp_min(0), (h, w)).to(activation)
    total = weights.sum((1, 2))[:, None]
    weighted = torch.einsum("bchw,bhw->bc", activation, weights) / total.clamp_min(1e-12)
    # Where nothing supports the wrong prediction, all spatial positions have equal weight.
    return torch.where(total > 0, weighted, activation.mean((2, 3)))


def _halves(values: Tensor, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return maps (B, *shape), each with its own sum, as float32."""
    values = values.detach().float()
    if tuple(values.shape[1:]) != shape:
        values = spread(values, shape)
    return values.cpu().numpy()
