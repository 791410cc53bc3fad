"""Explanations of PyTorch vision models: what they look at, and why they are wrong.

Names are imported on first use, so ``import cvx_core`` is cheap. The public names and their types
are listed in ``__init__.pyi``.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

_attribute, _directory, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _attribute(name)
    from cvx_core.plugins.functions import command_function

    return command_function(name)


def __dir__() -> list[str]:
    from cvx_core.plugins.functions import command_functions

    return sorted({*globals(), *__all__, *command_functions()})
