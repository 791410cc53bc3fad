"""Temporary hooks on modules, for one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

Key = TypeVar("Key")


def takes_hooks(module: nn.Module) -> bool:
    """Whether a module can be hooked; those of TorchScript have a forward that can't be."""
    return not isinstance(module, torch.jit._script.RecursiveScriptModule)


@contextmanager
def hooked(
    modules: Iterable[tuple[Key, nn.Module]],
    *,
    before: Callable[[Key, Any, Any], Any] | None = None,
    after: Callable[[Key, Any, Any, Any], Any] | None = None,
) -> Iterator[None]:
    """Call functions before and after modules run; leaving the block removes the hooks.

    Another thread may run the same model at the same time; its calls are ignored. Modules that
    can't be hooked are left out.

    Parameters
    ----------
    modules
        Pairs of a key that identifies the module, such as its name, and the module.
    before
        Called with the key, arguments and keyword arguments; a pair it returns replaces them.
    after
        Called with these and the output; a result other than None replaces the output.
    """
    thread, handles = threading.get_ident(), []

    def hook(function: Callable[..., Any], key: Key) -> Callable[..., Any]:
        def call(_module: nn.Module, *seen: Any) -> Any:
            return function(key, *seen) if threading.get_ident() == thread else None

        return call

    # Inside the try: registering may fail halfway, and the hooks so far must go too.
    try:
        for key, module in modules:
            if not takes_hooks(module):
                continue
            if before is not None:
                handles.append(
                    module.register_forward_pre_hook(hook(before, key), with_kwargs=True)
                )
            if after is not None:
                handles.append(module.register_forward_hook(hook(after, key), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
