"""Serialization of the work for processes on other machines."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from cvx_engine import Work

from cvx_core import CvxError
from cvx_core.plugins import error_boundary

WAY_OUT = (
    "What a model and a data set are made of must survive pickling: open files, locks and "
    "connections don't. Run --engine local, or on each machine its part: --shard 0/4, 1/4, ..."
)


def pack(thing: Any) -> bytes:
    """Return something as bytes.

    Raises
    ------
    CvxError
        If it can't be pickled.
    """
    from ray import cloudpickle

    with (
        error_boundary(
            lambda reason: CvxError(f"The work can't be sent to other processes: {reason}", WAY_OUT)
        ),
        _by_value(cloudpickle),
    ):
        path = [folder or str(Path.cwd()) for folder in sys.path]
        packed: bytes = cloudpickle.dumps((path, cloudpickle.dumps(thing)))
        return packed


def pack_work(work: Work[Any, Any, Any]) -> bytes:
    """Return the work as bytes that can be opened where there is no accelerator.

    Raises
    ------
    CvxError
        If it can't be pickled.
    """
    before = work.device
    if before == "cpu":
        return pack(work)
    work.to("cpu")
    try:
        return pack(work)
    finally:
        work.to(before)


def unpack(packed: bytes) -> Any:
    """Return what was packed; what could be imported there can be imported here."""
    from ray import cloudpickle

    path, thing = cloudpickle.loads(packed)
    sys.path.extend(folder for folder in path if folder not in sys.path)
    return cloudpickle.loads(thing)


@contextmanager
def _by_value(cloudpickle: Any) -> Iterator[None]:
    """Have code sent along that the other side could not import by its name.

    Such is the file of ``-m net.py:make``, with its neighbours.
    """
    modules = _not_importable()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _not_importable() -> list[ModuleType]:
    installed = tuple(
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # Asking for each of thousands of modules would take a second.
        if name == "__main__" or not isinstance(file, str) or file.startswith(installed):
            continue
        if name == module.__name__ and _found_as(name) != Path(file):
            found.append(module)
    return found


def _found_as(name: str) -> Path | None:
    """Return the file that a new process would import under a name; None if there is none."""
    parent = sys.modules.get(name.rpartition(".")[0])
    path: Sequence[str] | None = getattr(parent, "__path__", None)
    if "." in name and path is None:
        return None
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return Path(spec.origin) if spec.origin else None
    return None
