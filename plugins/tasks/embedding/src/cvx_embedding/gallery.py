"""Networks that compare an image with a gallery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cvx_core import InputError, ModelEntry, ModelSource, OptionError, VisionModel, load_model
from cvx_core.plugins import parse_parameters
from cvx_core.tasks import read_scores
from cvx_embedding.task import Embedding


class Similarity(nn.Module):
    """Cosine similarities (B, gallery) of images to a gallery, whose embeddings are fixed."""

    gallery: Tensor

    def __init__(self, model: VisionModel, images: Iterable[Any]) -> None:
        super().__init__()
        self.network, self.read = model.module.eval(), model.readout
        with torch.no_grad():
            # One by one: all images at once may not fit into memory.
            found = [self.embedding(model.prepare(one)[0].tensor[None]) for one in images]
        self.register_buffer("gallery", torch.cat(found))

    def forward(self, x: Tensor) -> Tensor:
        """Return the similarities of images (B, C, H, W)."""
        return self.embedding(x) @ self.gallery.T

    def embedding(self, x: Tensor) -> Tensor:
        """Return the embeddings of images, (B, D), of length 1."""
        output = self.network(x)
        found: Tensor = read_scores(output, 2) if self.read is None else self.read(output)
        return nn.functional.normalize(found)


def gallery_model(
    model: VisionModel, gallery: str | Path | Mapping[str, Any], threshold: float | None = None
) -> VisionModel:
    """Return a model that compares an image with a gallery.

    Parameters
    ----------
    model
        Its outputs (B, D) are embeddings; with a readout, what it returns.
    gallery
        An image, a folder of images, which may lie in folders with the names of their labels; or
        images by name, as in ``{"anna/1": image}``, in the forms of `VisionModel.prepare`.
    threshold
        See `Embedding`.

    Raises
    ------
    InputError
        If the gallery has no images, or one can't be read.
    """
    found = gallery if isinstance(gallery, Mapping) else _files(Path(gallery))
    if not found:
        raise InputError(f"There are no images in the gallery {gallery}.", "Pass gallery=FOLDER.")
    return VisionModel(
        Similarity(model, found.values()), model.preprocess, list(found), Embedding(threshold),
        name=f"embedding:{model.name}", details={**model.details, "gallery": len(found)},
    )  # fmt: skip


def _files(place: Path) -> dict[str, Path]:
    if not place.is_dir():
        return {place.name: place} if place.is_file() else {}
    known = Image.registered_extensions()
    shown = (p for p in place.rglob("*") if not p.name.startswith("."))
    files = sorted(p for p in shown if p.suffix.lower() in known and p.is_file())
    return {file.relative_to(place).as_posix(): file for file in files}


class EmbeddingSource(ModelSource):
    """Any model, whose outputs are embeddings, compared with a gallery."""

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model.

        Parameters
        ----------
        name
            ``MODEL,gallery=FOLDER``, with ``,threshold=0.4`` if wanted; MODEL as for
            `cvx_core.load_model`.
        weights, trust_checkpoint
            Of that model.

        Raises
        ------
        OptionError
            If no gallery is named.
        """
        inner, comma, rest = name.partition(",gallery=")
        given = parse_parameters(f"embedding:gallery={rest}")[1]
        if not (inner and comma) or set(given) - {"gallery", "threshold"}:
            raise OptionError(
                f"embedding needs a model and a gallery, got {name!r}.",
                "Write embedding:MODEL,gallery=FOLDER, as in embedding:net.py:build,gallery=faces.",
            )
        model = load_model(inner, weights=weights, trust_checkpoint=trust_checkpoint)
        return gallery_model(model, str(given["gallery"]), given.get("threshold"))

    def models(self) -> Iterable[ModelEntry]:
        """Return nothing: any model will do."""
        return ()
