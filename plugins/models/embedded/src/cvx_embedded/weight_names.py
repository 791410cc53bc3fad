"""From the names in the packaged checkpoint to timm's, for the same network.

The checkpoint numbers its blocks throughout and names the parts of a block by what they do
(``_blocks.1._expand_conv``); timm numbers blocks within stages and the parts of a block in order
(``blocks.1.0.conv_pw``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCK_WITHOUT_EXPANSION = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def to_timm(state: Mapping[str, torch.Tensor], depths: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return the tensors under timm's names; names in timm's style already stay.

    Parameters
    ----------
    state
        Tensors by name.
    depths
        Number of blocks in each of timm's stages.
    """
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    expanded = {name.split(".")[1] for name in state if "._expand_conv." in name}
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "_blocks" and int(parts[1]) < len(places):
            parts_of = _BLOCK if parts[1] in expanded else _BLOCK_WITHOUT_EXPANSION
            stage, block = places[int(parts[1])]
            parts = ["blocks", str(stage), str(block), parts_of[parts[2]], *parts[3:]]
        else:
            parts[0] = _OUTSIDE.get(parts[0], parts[0])
        renamed[".".join(parts)] = tensor
    return renamed
