"""Files of a model: from a folder, from the hub's cache, or downloaded once."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, snapshot_download

from cvx_core import CheckpointError, ModelError
from cvx_core.models import unreachable

_DESCRIPTION = ("*.json",)
_SAFE = ("model*.safetensors", "adapter_model.safetensors")
_PICKLED = ("pytorch_model*.bin", "adapter_model.bin")
_CONFIGURATIONS = ("config.json", "adapter_config.json")


def model_folder(name: str, *, with_weights: bool) -> Path:
    """Return the folder that holds a model.

    Raises
    ------
    ModelError
        If the name is invalid.
    CheckpointError
        If it is not in the local cache and can't be downloaded.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not _described(path):
            raise ModelError(
                f"No config.json in the folder {name}.",
                "Use a folder written by save_pretrained().",
            )
        return path
    if not name or name[0] in "./~" or name.count("/") > 1 or "\\" in name:
        raise ModelError(
            f"Folder not found: {name!r}." if name else "transformers requires a model name.",
            "Use a folder written by save_pretrained(), or OWNER/NAME on the hub.",
        )
    return _cached(name, with_weights) or _fetched(name, with_weights)


def local_folder(name: str) -> Path | None:
    """Return the folder of a model that is on this machine; None if there is none."""
    path = Path(name)
    if not name or path.is_dir():
        return path if name else None
    return _cached(name, with_weights=False)


def _cached(name: str, with_weights: bool) -> Path | None:
    repository, _, revision = name.partition("@")
    try:
        folder = Path(
            snapshot_download(repository, revision=revision or None, local_files_only=True)
        )
    except (OSError, ValueError):
        return None
    return folder if _complete(folder, with_weights) else None


def _complete(folder: Path, with_weights: bool) -> bool:
    weights = [file for kind in (*_SAFE, *_PICKLED) for file in folder.glob(kind)]
    return _described(folder) and (bool(weights) or not with_weights)


def _described(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGURATIONS)


def _fetched(name: str, with_weights: bool) -> Path:
    repository, _, revision = name.partition("@")
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    reason = reason or unreachable(constants.ENDPOINT)
    cause: Exception | None = None
    if not reason:
        try:
            # Pickled weights only if there are no others.
            for wanted in (_DESCRIPTION + _SAFE, _PICKLED) if with_weights else (_DESCRIPTION,):
                folder = Path(
                    snapshot_download(
                        repository,
                        revision=revision or None,
                        allow_patterns=list(wanted),
                        ignore_patterns=["*/*"],
                    )
                )
                if _complete(folder, with_weights):
                    return folder
            reason = "it has no config.json with weights"
        # The hub client's exceptions change between versions, and all mean the same here.
        except (OSError, RuntimeError, ValueError) as error:
            cause, reason = error, str(error).partition("\n")[0]
    raise CheckpointError(
        f"The model {name} is neither a folder nor in the local cache, and the download failed: "
        f"{reason}.",
        f"Run this once with network access and copy {constants.HF_HUB_CACHE} here, or use a "
        "folder written by save_pretrained().",
    ) from cause
