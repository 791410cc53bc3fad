"""Transfers of tensors from a device to the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def to_host(tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    """Return tensors as arrays, in one transfer from each device that they are on.

    On an accelerator each transfer waits until everything before it is computed. Dtypes that NumPy
    lacks become float32. On a CPU the arrays share the memory of the tensors.

    Examples
    --------
    >>> import torch
    >>> [maps, counts] = to_host([torch.zeros(2, 3, 3), torch.tensor([4, 5])])
    >>> maps.shape, counts.tolist()
    ((2, 3, 3), [4, 5])
    """
    plain = [
        (one.float() if one.dtype in (torch.bfloat16, torch.float16) else one).detach()
        for one in tensors
    ]
    host: dict[int, Tensor] = {}
    for device in {one.device for one in plain}:
        there = [k for k, one in enumerate(plain) if one.device == device]
        if device.type == "cpu":
            host |= {k: plain[k] for k in there}
            continue
        # The widest first, so that each begins where its numbers may begin.
        there.sort(key=lambda k: -plain[k].element_size())
        flat = [plain[k].reshape(-1).view(torch.uint8) for k in there]
        parts = torch.split(torch.cat(flat).cpu(), [len(one) for one in flat])
        for k, part in zip(there, parts, strict=True):
            host[k] = part.view(plain[k].dtype).reshape(plain[k].shape)
    return [host[k].numpy() for k in range(len(plain))]
