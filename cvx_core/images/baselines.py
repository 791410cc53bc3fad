"""Baselines: images without features, for comparison and for replaced regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cvx_core.plugins.parameters import check_choice

BASELINES = ("zero", "mean", "blur")


def check_baseline(name: str) -> None:
    """Check the name of a baseline.

    Raises
    ------
    OptionError
        If the name is none of `BASELINES`.
    """
    check_choice("baseline", name, BASELINES)


def make_baseline(name: str, inputs: torch.Tensor) -> torch.Tensor:
    """Return what each input is compared with, (B, C, H, W) as the inputs.

    Parameters
    ----------
    name
        ``"zero"``: the network's zero input, for most networks a mean grey. ``"mean"``: the
        image's own mean colour. ``"blur"``: the image blurred beyond recognition, twice by a box
        of an eighth of the shorter side (3 pixels at least), edges repeated.
    inputs
        (B, C, H, W), as the network takes them.
    """
    check_baseline(name)
    if name == "zero":
        return torch.zeros_like(inputs)
    if name == "mean":
        return inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs).contiguous()
    size = max(3, min(inputs.shape[-2:]) // 8) | 1
    for _ in range(2):
        padded = F.pad(inputs, (size // 2,) * 4, mode="replicate")
        inputs = F.avg_pool2d(padded, size, stride=1)
    return inputs
