"""Checkpoints, read without running code from the file."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvx_core._util.files import is_file
from cvx_core.errors import CheckpointError, CvxWarning, install_command
from cvx_core.plugins.isolation import describe_error

_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "state_dict_ema",
)
EXPORTED = ".pt2"

_UNREAD = "num_batches_tracked"
"""A counter that old checkpoints lack and that evaluation never reads."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
_SUFFIXES = (".safetensors", ".pth", ".pt", EXPORTED, ".bin", ".ckpt", ".tar")


def names_a_file(weights: str | Path) -> bool:
    """Return whether `weights` means a checkpoint file, not the name of published weights."""
    path = Path(weights)
    return (
        isinstance(weights, Path)
        or path.suffix.lower() in _SUFFIXES
        or len(path.parts) > 1
        or is_file(path)
    )


def read_checkpoint(path: str | Path, *, trust: bool = False) -> dict[str, torch.Tensor]:
    """Return the tensors of a ``.safetensors`` or ``.pth``/``.pt``/``.bin`` file.

    Parameters
    ----------
    path
        The file.
    trust
        Load a pickle that needs more than tensors and plain containers. That can run any code
        the file's author put into it.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, holds no tensors, or could run code and is not trusted.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"File not found: {path}.")
    if path.suffix.lower() == EXPORTED:
        raise CheckpointError(
            f"{path} is a program of torch.export, not a state dict.",
            f"torch.save(torch.export.load({str(path)!r}).state_dict, 'weights.pth') saves one.",
        )
    safe = path.suffix.lower() == ".safetensors"
    loaded = _read_safetensors(path) if safe else _read_torch(path, trust)
    state = _unwrap(loaded, str(path))
    if not state:
        raise CheckpointError(
            f"{path} holds no tensors by name.",
            "cvx reads state dicts: torch.save(m.state_dict()).",
        )
    return state


def load_weights(module: nn.Module, path: str | Path, *, trust: bool = False) -> None:
    """Load a checkpoint into a module; every parameter must be there and fit.

    Raises
    ------
    CheckpointError
        If the file can't be read, or names or shapes differ: the first few of each are named.
    """
    fit_weights(module, read_checkpoint(path, trust=trust), str(path))


def fit_weights(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Copy tensors into a module; every parameter must be there and fit.

    Parameters
    ----------
    module
        Changed in place, unless the weights don't fit.
    state
        Tensors by name; a prefix that wrappers put before every name is dropped.
    origin
        Where the tensors are from, for the error.

    Raises
    ------
    CheckpointError
        If names, shapes or kinds of numbers differ: the first few of each are named.
    """
    own = module.state_dict()
    state = _rename(state, own, origin)
    missing = sorted(name for name in own.keys() - state.keys() if not name.endswith(_UNREAD))
    extra = sorted(state.keys() - own.keys())
    differ = [
        f"{name} is {tuple(state[name].shape)} and should be {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
        for items, what in (
            (missing, "missing"),
            (extra, "not in the model"),
            (differ, "of another shape"),
            (_lossy(state, own), "that lose something"),
        )
        if items
    ]
    if problems:
        raise CheckpointError(
            f"The weights in {origin} don't fit {type(module).__name__}: {'; '.join(problems)}.",
            "Name the model that these weights were saved from. One with other classes is built "
            "by code of yours: -m path/to/file.py:factory.",
        )
    complete: OrderedDict[str, torch.Tensor] = OrderedDict(state)
    # Some modules (MNASNet) load by the version that torch.save keeps beside the tensors, and that
    # other formats lack. Names and shapes fit, so that it is today's.
    complete._metadata = getattr(own, "_metadata", None)  # type: ignore[attr-defined]
    module.load_state_dict(complete, strict=False)


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f"{path} needs the package safetensors.", install_command("safetensors")
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"Not a safetensors file: {path}: {error}") from error


def _read_torch(path: Path, trust: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters is an error
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if not _is_pickle(path):
            raise CheckpointError(f"Not a PyTorch checkpoint: {path}.") from error
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        requirements = f" It asks for {asked[1]}." if asked else ""
        raise CheckpointError(
            f"{path} holds more than weights, and loading it could run code.{requirements}",
            "If you made the file yourself: --trust-checkpoint (trust_checkpoint=True). Better: "
            "save a state dict, or safetensors.",
        ) from error
    # A damaged or foreign file fails in the zip reader, the unpickler or its own code.
    except Exception as error:
        raise CheckpointError(
            f"{path} could not be read as a checkpoint: {describe_error(error)}"
        ) from error


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(2)
    return zipfile.is_zipfile(path) or start[:1] == b"\x80"


def _unwrap(loaded: Any, origin: str) -> dict[str, torch.Tensor]:
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if not isinstance(loaded, Mapping):
        return {}
    wrapped = {str(key): state for key, value in loaded.items() if (state := _tensors(value))}
    named = [key for key in _WRAPPERS if key in wrapped]
    own = _tensors(loaded)
    if not named and own:
        return own
    # Plain weights before averaged ones, whatever they are called.
    keys = named + sorted((key for key in wrapped if key not in named), key=_is_averaged)
    if not keys:
        return {}
    alike = [key for key in keys[1:] if wrapped[key].keys() == wrapped[keys[0]].keys()]
    if alike:
        _warn(f"Loaded the weights under {keys[0]!r} of {origin}, not {', '.join(alike)}.")
    return wrapped[keys[0]]


def _tensors(value: Any) -> dict[str, torch.Tensor]:
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if not isinstance(value, Mapping):
        return {}
    return {str(k): v for k, v in value.items() if isinstance(v, torch.Tensor)}


def _is_averaged(name: str) -> bool:
    return "ema" in name.lower() or "averag" in name.lower()


def _warn(message: str) -> None:
    warnings.warn(message, CvxWarning, stacklevel=5)


def _lossy(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the tensors that the module can't hold without loss."""
    found = []
    for name in own.keys() & state.keys():
        given, wanted = state[name], own[name]
        kinds = [(one.is_floating_point(), one.is_complex()) for one in (given, wanted)]
        if kinds[0] != kinds[1] or given.layout != wanted.layout or given.is_quantized:
            found.append(f"{name} is {given.dtype} for {wanted.dtype}".replace("torch.", ""))
    return sorted(found)


def _rename(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], origin: str
) -> Mapping[str, torch.Tensor]:
    """Drop the prefixes that wrappers (DataParallel, compile, Lightning) put before the names.

    Where a prefix covers the whole module, other tensors (of a loss, of averaged weights) are left
    out with a warning that names them.
    """
    while state and not own.keys() & state.keys():
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    first = next(iter(own), "")
    prefixes = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    required = [name for name in own if not name.endswith(_UNREAD)]
    whole = [p for p in prefixes if all(f"{p}{name}" in state for name in required)]
    if first in state or not whole:
        return state
    taken = min(whole, key=_is_averaged)
    left = [name for name in state if not name.startswith(taken)]
    if left:
        shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        _warn(f"Loaded the weights {taken}* of {origin}; ignored: {shown}.")
    return {name.removeprefix(taken): state[name] for name in state if name.startswith(taken)}
