"""Adapters of PEFT, such as LoRA: a folder with what was trained on top of another model."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvx_core import CheckpointError, ModelError, install_command
from cvx_core.models import read_checkpoint
from cvx_core.plugins import describe_error

_CONFIGURATION = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter in a folder.

    Attributes
    ----------
    folder
        As ``save_pretrained`` writes it.
    name
        As the user wrote it.
    base
        Name of the model that it was trained on: a folder, or one on the hub.
    heads
        Names of modules that it replaces as a whole, such as the classifier.
    state
        Its tensors by name.
    """

    folder: Path
    name: str
    base: str
    heads: tuple[str, ...]
    state: dict[str, torch.Tensor]

    def classes(self, module: nn.Module, count: int) -> int:
        """Return the number of classes, given the base network and its own number."""
        for key, own in module.state_dict().items():
            trained = self.state.get(f"base_model.model.{key}")
            if trained is not None and self.replaces(key) and trained.shape != own.shape:
                return int(count + trained.shape[0] - own.shape[0])
        return count

    def replaces(self, parameter: str) -> bool:
        """Return whether a parameter of the base network belongs to a replaced module."""
        return any(head in parameter.split(".") for head in self.heads)

    def applied(self, module: nn.Module) -> nn.Module:
        """Return the network with the adapter merged into its weights.

        Raises
        ------
        ModelError
            If the package peft is not installed.
        CheckpointError
            If the adapter doesn't fit.
        """
        try:
            from peft import PeftModel
        except ImportError as error:
            raise ModelError(
                f"{self.name} is an adapter, which needs the package peft.", install_command("peft")
            ) from error
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Found missing adapter keys")
                wrapped: Any = PeftModel.from_pretrained(module, str(self.folder))
                merged: nn.Module = wrapped.merge_and_unload(safe_merge=True)
        # Boundary to untrusted files, and to the kinds of adapters that can't be merged.
        except Exception as error:
            raise CheckpointError(
                f"The adapter {self.name} doesn't fit {self.base}: {describe_error(error)}",
                "Use the model that it was trained on; or apply it in your own code: "
                "-m file.py:FACTORY.",
            ) from error
        return merged


def read_adapter(folder: Path, name: str, *, trust: bool) -> Adapter | None:
    """Return the adapter in a folder, or None if the folder holds none.

    Raises
    ------
    ModelError
        If it doesn't say which model it was trained on.
    CheckpointError
        If its weights can't be read.
    """
    description = folder / _CONFIGURATION
    if not description.is_file():
        return None
    try:
        found = json.loads(description.read_text())
        base, heads = found.get("base_model_name_or_path"), found.get("modules_to_save") or ()
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{name}/{_CONFIGURATION} can't be read: {error}") from error
    if not base:
        raise ModelError(
            f"The adapter {name} doesn't say which model it was trained on.",
            f"Set base_model_name_or_path in {name}/{_CONFIGURATION} to its folder or name.",
        )
    files = [folder / one for one in _WEIGHTS if (folder / one).is_file()]
    if not files:
        raise CheckpointError(f"{name} holds no weights of an adapter: {' or '.join(_WEIGHTS)}.")
    state = read_checkpoint(files[0], trust=trust)
    return Adapter(folder, name, str(base), tuple(heads), state)
