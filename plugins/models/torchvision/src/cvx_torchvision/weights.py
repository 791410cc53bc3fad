"""Files of torchvision's published weights, from PyTorch's cache or downloaded once."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torchvision.models import WeightsEnum

from cvx_core import CheckpointError
from cvx_core.models import fetch


def file_name(weights: WeightsEnum) -> str:
    """Return the name of the file, as in ``resnet50-11ad3fa6.pth``."""
    return Path(urlsplit(weights.url).path).name


def cached_file(weights: WeightsEnum) -> Path:
    """Return the file, downloaded if PyTorch's cache does not hold it.

    Raises
    ------
    CheckpointError
        If it is unavailable; names the file, its URL and its path in the cache.
    """
    name = file_name(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    # torchvision's file names end in the first digits of their digest.
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", name)
    try:
        return fetch(weights.url, path, sha256=digest[1] if digest else "")
    except CheckpointError as error:
        raise CheckpointError(
            f"The weights {weights} ({name}) are not in the local cache, and the download failed: "
            f"{error.message}.",
            f"Download {weights.url} elsewhere and copy it to {path}, or pass it with "
            "--weights FILE, or use --weights random.",
        ) from error
