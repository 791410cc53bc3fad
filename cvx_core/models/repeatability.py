"""Networks that answer differently twice: dropout left on, noise, a state that forward changes."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_core.errors import MethodError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.models.vision_model import VisionModel


def differs_between_runs(model: VisionModel, inputs: Tensor) -> str:
    """Return by how much two runs on one image differ, in words; empty if they agree.

    Found from two forward passes, once for each model and input size.
    """

    def compute() -> str:
        with torch.inference_mode(False), torch.no_grad(), eager(), evaluation_mode(model.module):
            image = inputs[:1].clone()
            one, other = (model.read(model.run(image)).float() for _ in range(2))
        difference = float((one - other).abs().max())
        # Kernels may add in another order.
        coarse = inputs.dtype in (torch.float16, torch.bfloat16)
        if not difference > (0.1 if coarse else 1e-3) * float(one.abs().max()):
            return ""
        return f"Two runs of {model.name} on one image differ by up to {difference:.3g}"

    return model.facts.find(compute, "two runs", inputs.shape[1:])


def check_repeatable(model: VisionModel, inputs: Tensor) -> None:
    """Refuse to compare forward passes of a network that answers differently twice.

    Raises
    ------
    MethodError
        If two runs on one image differ.
    """
    found = differs_between_runs(model, inputs)
    if found:
        raise MethodError(
            f"{found}, so that its forward passes can't be compared.",
            "Dropout may be left on (pass training=self.training to F.dropout), or the network "
            "draws noise, or changes a state; methods that run it once need no comparison.",
        )
