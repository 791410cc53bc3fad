"""From a photograph to the input of a network of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor

from cvx_core import ModelError


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
    """Stands where a model came without an image processor: prepared tensors still work."""

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
            f"{self.name} does not say how to prepare a photograph: {self.reason}",
            "Save its image processor beside it (processor.save_pretrained(folder)), or explain "
            "prepared tensors.",
        )


def read_preprocess(folder: Path, name: str) -> ProcessorPreprocess | MissingPreprocess:
    """Return the preprocess that a model's folder describes."""
    if not (folder / "preprocessor_config.json").is_file():
        return MissingPreprocess(name, "there is no preprocessor_config.json.")
    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # The boundary to a file from anywhere: checks of transformers raise what they please.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return MissingPreprocess(name, f"{type(error).__name__}: {first}")
    return ProcessorPreprocess(processor)
