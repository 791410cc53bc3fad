"""Files of timm's published weights, from the local cache or downloaded once."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.models import PretrainedCfg

from cvx_core import CheckpointError
from cvx_core.models import fetch, unreachable

_FILES = ("model.safetensors", "pytorch_model.bin")


def published_file(config: PretrainedCfg) -> Path:
    """Return the file with the weights, downloaded if no cache holds it.

    Raises
    ------
    CheckpointError
        If it is unavailable; names the file and the alternatives.
    """
    if config.hf_hub_id:
        return _from_hub(str(config.hf_hub_id), config.hf_hub_filename)
    if config.url:
        return _from_url(str(config.url))
    raise CheckpointError(
        f"timm publishes no weights for {config.architecture}.",
        "Pass a file with --weights FILE, or use --weights random.",
    )


def _from_url(url: str) -> Path:
    name = Path(urlsplit(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    try:
        return fetch(url, path)
    except CheckpointError as error:
        raise CheckpointError(
            f"The weights {name} are not in the local cache, and the download failed: "
            f"{error.message}.",
            f"Download {url} elsewhere and copy it to {path}, or use --weights random.",
        ) from error


def _from_hub(repository: str, file_name: str | None) -> Path:
    repository, _, revision = repository.partition("@")
    names = _FILES if not file_name or file_name == _FILES[1] else (file_name,)
    for name in names:
        try:
            return Path(
                hf_hub_download(repository, name, revision=revision or None, local_files_only=True)
            )
        except LocalEntryNotFoundError:
            continue
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    reason = reason or unreachable(constants.ENDPOINT)
    cause: Exception | None = None
    for name in names if not reason else ():
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except EntryNotFoundError as error:
            cause = error
        # The hub client's exceptions change between versions, and all mean the same here.
        except (OSError, RuntimeError, ValueError) as error:
            cause = error
            break
    reason = reason or str(cause).partition("\n")[0]
    raise CheckpointError(
        f"The weights {repository} ({names[0]}) are not in the local cache, and the download "
        f"failed: {reason}.",
        f"Run this once with network access and copy {constants.HF_HUB_CACHE} here, or pass "
        "the file with --weights FILE, or use --weights random.",
    ) from cause
