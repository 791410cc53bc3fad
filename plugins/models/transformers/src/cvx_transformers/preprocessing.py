"""Preprocessing of images for networks of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor

from cvx_core import ModelError
from cvx_core.plugins import describe_error


@dataclass(frozen=True, eq=False)
class ProcessorPreprocess:
    """An image processor of transformers as a preprocess."""

    processor: Any

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return float32 (3, H, W)."""
        pixels: torch.Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels


@dataclass(frozen=True)
class MissingPreprocess:
    """Placeholder for a missing image processor; prepared tensors still work."""

    name: str
    reason: str

    def __call__(self, image: Image.Image) -> torch.Tensor:  # noqa: ARG002
        """Refuse.

        Raises
        ------
        ModelError
            Always.
        """
        raise ModelError(
            f"{self.name} has no preprocessing for images: {self.reason}",
            "Save its image processor in its folder (processor.save_pretrained(folder)), or "
            "explain prepared tensors.",
        )


def read_preprocess(folder: Path, name: str) -> ProcessorPreprocess | MissingPreprocess:
    """Return the preprocessing defined in a model's folder."""
    if not (folder / "preprocessor_config.json").is_file():
        return MissingPreprocess(name, "preprocessor_config.json not found.")
    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # Boundary to untrusted files: checks of transformers raise any exception.
    except Exception as error:
        return MissingPreprocess(name, describe_error(error))
    return ProcessorPreprocess(processor)
