"""Watch a network's modules while they run, in one thread, for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

Key = TypeVar("Key")


@contextmanager
def hooked(
    modules: Iterable[tuple[Key, nn.Module]],
    *,
    before: Callable[[Key, Any, Any], Any] | None = None,
    after: Callable[[Key, Any, Any, Any], Any] | None = None,
) -> Iterator[None]:
    """Call functions before and after modules run; the hooks are gone when the block is left.

    Another thread may run the same model at the same time: what it does is not seen.

    Parameters
    ----------
    modules
        Pairs of anything that tells a module from the others, such as its name, and the module.
    before
        Called with that, the arguments and the keyword arguments; a pair that it returns takes
        their place.
    after
        Called with these and the output; what it returns other than None takes the output's place.
    """
    thread, handles = threading.get_ident(), []

    def hook(function: Callable[..., Any], key: Key) -> Callable[..., Any]:
        def call(_module: nn.Module, *seen: Any) -> Any:
            return function(key, *seen) if threading.get_ident() == thread else None

        return call

    try:
        for key, module in modules:
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


__all__ = ["hooked"]
