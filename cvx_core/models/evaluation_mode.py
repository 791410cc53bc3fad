"""Evaluation mode that leaves a model exactly as it was found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from cvx_core._util.modules import named_modules

_lock = threading.Lock()
_in_use: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while.

    The modes of all its submodules and the state of the random number generators come back
    afterwards, also after an exception. Where several threads use one module, the last to leave
    restores the modes that the first one found.
    """
    with _lock:
        users, were_training = _in_use.get(module, (0, []))
        if not users:
            were_training = [m for _, m in named_modules(module) if m.training]
        for m in were_training:
            m.training = False
        _in_use[module] = (users + 1, were_training)
    cpu_state = torch.get_rng_state()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, device)
        with _lock:
            users, were_training = _in_use[module]
            if users > 1:
                _in_use[module] = (users - 1, were_training)
            else:
                del _in_use[module]
                for m in were_training:
                    m.training = True
