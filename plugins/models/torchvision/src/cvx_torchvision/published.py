"""Published weights: in PyTorch's cache, or fetched into it once."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torchvision.models import WeightsEnum

from cvx_core import CheckpointError
from cvx_core.models.downloads import fetch


def file_name(weights: WeightsEnum) -> str:
    """Return the name of the file, as in ``resnet50-11ad3fa6.pth``."""
    return Path(urlsplit(weights.url).path).name


def cached_file(weights: WeightsEnum) -> Path:
    """Return the file, downloaded if PyTorch's cache does not hold it.

    Raises
    ------
    CheckpointError
        At once, if it can't be had; with the file's name, its address and where to put it.
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
            f"The weights {weights} are not on this machine ({name}), and downloading them failed: "
            f"{error.message}.",
            f"Fetch {weights.url} elsewhere and put it at {path}, or pass it as --weights FILE; "
            "--weights random does without.",
        ) from error
