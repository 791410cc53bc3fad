"""Model source for image-text models, with prompts as classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.models import load_weights, names_a_file, seeded
from cvx_core.plugins import describe_error, parse_parameters
from cvx_zero_shot.image_text import Tokenize, zero_shot_model

_WRITE = "Write zero-shot:NAME,prompts=FILE with one prompt a line, or prompts=[a cat,a dog]."


class ZeroShotSource(cvx.ModelSource):
    """Image-text models of transformers and open_clip; code included in a model is never run."""

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> cvx.VisionModel:
        """Return a model; see the README for names.

        Raises
        ------
        OptionError, ModelError, CheckpointError
            If there are no prompts, the model is unknown, or its weights can't be had.
        """
        name, _, rest = name.partition(",")
        given = parse_parameters(f"zero-shot:{rest}")[1]
        if not name or set(given) - {"prompts", "template"} or "prompts" not in given:
            raise cvx.OptionError(
                f"zero-shot needs a model and prompts, got {name!r}, {given}.", _WRITE
            )
        own = weights is not None and (str(weights) == "random" or names_a_file(weights))
        in_open_clip = ":" in name or not ("/" in name or Path(name).is_dir())
        load = _open_clip if in_open_clip else _transformers
        try:
            with seeded():
                network, tokenize, preprocess = load(name, None if own else weights, bare=own)
        except ModuleNotFoundError as error:
            library = "open-clip-torch" if in_open_clip else "transformers"
            raise cvx.UsageError(
                f"{name} needs {library}: {error}", f"Run: {cvx.install_command(library)}"
            ) from error
        # Boundary to foreign files: a damaged one fails anywhere.
        except (OSError, ImportError, RuntimeError, ValueError, KeyError) as error:
            raise cvx.CheckpointError(f"{name} can't be loaded: {describe_error(error)}") from error
        if own and str(weights) != "random":
            load_weights(network, str(weights), trust=trust_checkpoint)
        return zero_shot_model(
            network, tokenize, _prompts(given["prompts"]), preprocess,
            template=str(given.get("template", "{}")),
            name=f"zero-shot:{Path(name).name if Path(name).is_dir() else name}",
            details={"weights": Path(weights).name if weights else "pretrained"},
        )  # fmt: skip

    def models(self) -> Iterable[cvx.ModelEntry]:
        """Return nothing: a hub can't be listed."""
        return ()


def _prompts(given: Any) -> list[str]:
    if isinstance(given, str) and cvx.is_file(given):
        return [line.strip() for line in cvx.read_text(Path(given)).splitlines() if line.strip()]
    if isinstance(given, list):
        return [str(one) for one in given]
    raise cvx.ModelError(f"File of prompts not found: {given!r}.", _WRITE)


@dataclass(frozen=True, eq=False)
class Processor:
    """A processor of transformers as a preprocess and a tokenizer."""

    processor: Any
    length: int

    def __call__(self, image: Image.Image) -> Tensor:
        """Return float32 (3, H, W)."""
        pixels: Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """Return the arguments of the text tower; SigLIP was trained with padding to the end."""
        form = {"padding": "max_length", "max_length": self.length, "truncation": True}
        return dict(self.processor(text=texts, return_tensors="pt", **form))


def _transformers(name: str, weights: Any, *, bare: bool) -> tuple[nn.Module, Tokenize, Any]:
    from transformers import AutoConfig, AutoModelForZeroShotImageClassification, AutoProcessor
    from transformers.utils import logging

    if weights is not None:
        raise cvx.CheckpointError(
            f"{name} has no weights {str(weights)!r}.", "Use 'random' or a file."
        )
    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    auto, report = AutoModelForZeroShotImageClassification, {}
    if bare:
        network = auto.from_config(config)
    else:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        network, report = auto.from_pretrained(name, output_loading_info=True)
        if shown:
            logging.enable_progress_bar()
    if report.get("missing_keys"):
        raise cvx.CheckpointError(f"{name} lacks weights: {sorted(report['missing_keys'])[:3]}.")
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
    found = Processor(processor, config.text_config.max_position_embeddings)
    return network, found.tokens, found


def _open_clip(name: str, weights: Any, *, bare: bool) -> tuple[nn.Module, Tokenize, Any]:
    import open_clip

    if weights is None and not bare and ":" not in name:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise cvx.CheckpointError(f"{name} needs --weights TAG.", f"TAG is one of: {known}.")
    network, _, preprocess = open_clip.create_model_and_transforms(
        name, pretrained=weights, load_weights=not bare
    )
    return network, open_clip.get_tokenizer(name), preprocess
