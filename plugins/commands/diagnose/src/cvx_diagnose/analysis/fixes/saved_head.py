"""Weights of a network with a new last layer, in the folder of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
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
    state = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in work.model.module.state_dict().items()
    }
    layer = f"{plan.features}." if plan.features else ""
    for key, values in ((f"{layer}weight", coefficients), (f"{layer}bias", bias)):
        if key not in state or tuple(state[key].shape) != values.shape:
            return None
        state[key] = torch.from_numpy(np.ascontiguousarray(values)).to(state[key].dtype)
    file = f"{name}.safetensors"
    write_atomic(run.folder / file, save(state), overwrite=True)
    return file
