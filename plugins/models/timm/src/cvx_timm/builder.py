"""Construction of timm's networks; cvx reads the weights.

timm renames and reshapes published tensors for some networks. It gets the tensors from cvx, so
that it does the same here.
"""

from __future__ import annotations

import timm
from timm.models import PretrainedCfg
from torch import nn

from cvx_core import CheckpointError
from cvx_core.models import read_checkpoint, seeded
from cvx_timm.hub import published_file


def bare(config: PretrainedCfg) -> nn.Module:
    """Return the network with seeded random parameters."""
    with seeded():
        module: nn.Module = timm.create_model(_full_name(config), pretrained=False)
    return module


def trained(config: PretrainedCfg) -> nn.Module:
    """Return the network with its published weights, downloaded if necessary.

    Raises
    ------
    CheckpointError
        If they are unavailable.
    """
    path = published_file(config)
    state = read_checkpoint(path)
    try:
        with seeded():
            module: nn.Module = timm.create_model(
                _full_name(config), pretrained=True, pretrained_cfg_overlay={"state_dict": state}
            )
    except (RuntimeError, KeyError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"The weights in {path} don't fit {_full_name(config)}: {first}",
            "Delete the file to download it again, or update timm.",
        ) from error
    # The network would hold the tensors a second time, and take them along when pickled.
    remembered = getattr(module, "pretrained_cfg", None)
    if isinstance(remembered, dict):
        remembered.pop("state_dict", None)
    return module


def _full_name(config: PretrainedCfg) -> str:
    return f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
