"""Weights of a network with another last layer, in the folder of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save

from cvx_core import write_atomic
from cvx_diagnose.analysis.fixes.halves import Halves
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork


def save_head(
    run: Run, work: DiagnosisWork | None, halves: Halves, head: Any, name: str
) -> str | None:
    """Write the weights of the network with a new last layer, and return the file's name.

    None where the logits are not a linear map of the features, or the data do not have all classes
    of the network: the other classes would be lost.

    Parameters
    ----------
    head
        A logistic regression on the features of `halves`.
    name
        Of the file, without its ending.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    plan = run.plan
    if work is None or not plan.features_exact or len(head.classes_) != plan.outputs:
        return None
    coefficients, bias = head.coef_ / halves.scale, head.intercept_
    if len(bias) == 1:  # of two classes only the difference is fitted
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    state = _state(work)
    layer = f"{plan.features}." if plan.features else ""
    for key, values in ((f"{layer}weight", coefficients), (f"{layer}bias", bias)):
        if key not in state or tuple(state[key].shape) != values.shape:
            return None
        state[key] = torch.from_numpy(np.ascontiguousarray(values)).to(state[key].dtype)
    return _write(run, state, name)


def save_offsets(
    run: Run, work: DiagnosisWork, offsets: npt.NDArray[Any], number: int
) -> str | None:
    """Write the weights of the network with constants added to its logits; return the file's name.

    They are added to the bias of the layer that moves the logits by as much, which is looked for on
    one input. None where there is no such layer.

    Parameters
    ----------
    offsets
        (C,).
    number
        Id of the input.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    model = work.model
    values = torch.from_numpy(work.decode(work.manifest.find(number)).values)[None]
    inputs = values.to(model.device, model.dtype)
    before = model.output(inputs).scores.double()
    added = torch.from_numpy(offsets).to(before.device)
    # Of one channel with two classes the difference is the logit.
    single = added[1:] - added[:1]
    for name, parameter in reversed(list(model.module.named_parameters())):
        if name.rpartition(".")[2] != "bias" or parameter.numel() not in (len(added), len(single)):
            continue
        constants = added if parameter.numel() == len(added) else single
        kept = parameter.detach().clone()
        try:
            with torch.no_grad():
                parameter.add_(constants.to(parameter.dtype))
            moved = model.output(inputs).scores.double() - before
            state = _state(work)
        finally:
            with torch.no_grad():
                parameter.copy_(kept)
        # Softmax doesn't change with what all classes have in common.
        wanted = (added - added.mean())[None, :, None, None]
        if torch.allclose(moved - moved.mean(1, keepdim=True), wanted.expand_as(moved), atol=1e-3):
            return _write(run, state, "class-thresholds")
    return None


def _state(work: DiagnosisWork) -> dict[str, torch.Tensor]:
    return {
        key: value.detach().cpu().contiguous().clone()
        for key, value in work.model.module.state_dict().items()
    }


def _write(run: Run, state: dict[str, torch.Tensor], name: str) -> str:
    file = f"{name}.safetensors"
    write_atomic(run.folder / file, save(state), overwrite=True)
    return file
