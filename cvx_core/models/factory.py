"""Models from code of the user's own: ``path/to/file.py:factory``, ``package.module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from cvx_core._util.files import is_file
from cvx_core.errors import ModelError, did_you_mean
from cvx_core.models.checkpoints import load_weights
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.isolation import error_boundary


def load_factory(
    name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
) -> VisionModel | nn.Module:
    """Call a factory and return its model, or the module that it made.

    Parameters
    ----------
    name
        ``"file.py:factory"`` or ``"package.module:factory"``. The factory is called without
        arguments and returns a `VisionModel` or a `torch.nn.Module`; it may also be the model.
    weights
        A checkpoint to load into the module; None keeps what the factory set up.
    trust_checkpoint
        See `cvx_core.load_model`.

    Raises
    ------
    ModelError
        If the code can't be imported, or the factory raises or returns no model.
    """
    place, _, attribute = name.rpartition(":")
    file = Path(place) if place.endswith(".py") else None
    with _importable(file):
        made = _make(_import_module(place) if file is None else _import_file(file), name, attribute)
    if not isinstance(made, VisionModel | nn.Module):
        raise ModelError(
            f"{name} returned a {type(made).__name__}.",
            "A factory takes no arguments and returns a cvx_core.VisionModel or a torch.nn.Module.",
        )
    if weights is not None and str(weights) != "random":
        module = made.module if isinstance(made, VisionModel) else made
        load_weights(module, weights, trust=trust_checkpoint)
    return made


@contextmanager
def _importable(file: Path | None) -> Iterator[None]:
    """Let a file import its neighbours, also when its factory runs; a module, the current folder.

    Neighbours come first, as when Python runs the file; the current folder comes last, where it
    hides nothing that is installed.
    """
    before = list(sys.path)
    if file is not None:
        sys.path.insert(0, str(file.resolve().parent))
    else:
        sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _make(module: ModuleType, name: str, attribute: str) -> Any:
    place = name.rpartition(":")[0]
    made: Any = getattr(module, attribute, None)
    if made is None:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ModelError(
            f"{place} has no {attribute!r}.",
            did_you_mean(attribute, public) or f"Write {place}:NAME with the name of a factory.",
        )
    if not callable(made) or isinstance(made, nn.Module):
        return made
    with error_boundary(lambda reason: ModelError(f"{name} raised {reason}")):
        return made()


def _import_file(path: Path) -> ModuleType:
    if not is_file(path):
        raise ModelError(f"File not found: {path}.")
    path = path.resolve()
    # The same name in every process, so that what the file defines can be pickled.
    module_name = f"_cvx_user_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} can't be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with error_boundary(
            lambda reason: ModelError(f"{path} failed on import: {reason}"),
            passing=(),
        ):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    def failed(reason: str) -> ModelError:
        return ModelError(
            f"The module {name!r} could not be imported: {reason}",
            "A file is named with its ending: path/to/file.py:factory.",
        )

    with error_boundary(failed, passing=()):
        return importlib.import_module(name)
