"""Walks over the submodules and the weights of a network, in one function call each.

PyTorch's own are generators inside generators: several calls for each module, each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a module and its submodules with their names, each once, as PyTorch orders them."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    stack = [("", module)]
    while stack:
        name, one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        found.append((name, one))
        prefix = f"{name}." if name else ""
        for key, part in reversed(list(one._modules.items())):
            if part is not None:
                stack.append((prefix + key, part))
    return found


def weights(module: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of a module and its submodules."""
    found: list[Tensor] = []
    for _, one in named_modules(module):
        for several in (one._parameters, one._buffers):
            for tensor in several.values():
                if tensor is not None:
                    found.append(tensor)  # noqa: PERF401 - a comprehension is a call
    return found
