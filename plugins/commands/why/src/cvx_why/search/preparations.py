"""Other preparations of an image: the usual errors before the network, each tried once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cvx_core import CvxError, VisionModel
from cvx_core.images import PreparedImage, read_image
from cvx_why.search.perturbations import PerturbationRunner

MOST = 10
"""Number of preparations that are tried at most."""

STRONG = 4.0
"""Lead of the true class over the wrong one, in logits, from which on a preparation that shows no
more of the image is reported: odds of 55 to 1. A near tie is turned by any change."""

_CUT = 0.02
"""Share of the image that must be cropped, or difference of scales, for the whole to be tried."""
_WHOLE = "with the whole image"
_GREY = (128, 128, 128)
_TURNS = {
    "turned clockwise by 90°": Image.Transpose.ROTATE_270,
    "turned counterclockwise by 90°": Image.Transpose.ROTATE_90,
    "turned by 180°": Image.Transpose.ROTATE_180,
}
_SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mean and deviation of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "values from -1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "values from 0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "values from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}


@dataclass(frozen=True, eq=False)
class Preparation:
    """Another preparation of the image that corrects the prediction.

    Attributes
    ----------
    name
        What it is, as in ``"turned by 180°"``.
    change
        Change of the margin, in logits; negative if it helps.
    note
        What is predicted, as in ``"hammer 54.6 %"``.
    """

    name: str
    change: float
    note: str = ""

    @property
    def text(self) -> str:
        """The finding as a sentence."""
        return f"{self.name[0].upper()}{self.name[1:]}, the prediction is correct: {self.note}."


def try_preparations(runner: PerturbationRunner, most: int = MOST) -> tuple[Preparation, ...]:
    """Return the preparations that correct the prediction, the largest change of the margin first.

    The whole image where a part was cropped or the sides were scaled differently, the image
    turned, its contrast stretched, its colors in another order, its values in another of the usual
    ranges; all but the first must make the true class lead by `STRONG`. Each costs one image of the
    budget. Only for classifiers of color images that were prepared here.
    """
    image, model = runner.image, runner.model
    if not (
        model.task.whole_image and image.tensor.shape[0] == 3 and most and _is_repeatable(runner)
    ):
        return ()
    candidates = [
        (name, tensor.to(image.tensor))
        for name, tensor in _candidates(model, image)
        if tensor.shape == image.tensor.shape
    ][:most]
    if not candidates:
        return ()
    judged = runner.judge(torch.stack([tensor for _, tensor in candidates]))
    found = [
        Preparation(name, one.margin - runner.mistake.margin, one.note)
        for (name, _), one in zip(candidates, judged, strict=True)
        if one.right and (name.startswith(_WHOLE) or one.margin <= -STRONG)
    ]
    return tuple(sorted(found, key=lambda one: one.change))


def _is_repeatable(runner: PerturbationRunner) -> bool:
    """Whether preparing the shown image gives the input: it was no tensor, and has no bands."""
    try:
        again = runner.model.preparer.tensor(runner.image.source)
    except CvxError:
        return False
    return torch.equal(again.to(runner.image.tensor), runner.image.tensor)


def _candidates(model: VisionModel, image: PreparedImage) -> Iterator[tuple[str, Tensor]]:
    original = image.source.pil()
    for name, changed in _images(original, image):
        yield name, model.preparer.tensor(read_image(changed))
    yield "with red and blue exchanged", image.tensor.flip(0)
    yield from _ranges(image.tensor, original)


def _images(original: Image.Image, image: PreparedImage) -> Iterator[tuple[str, Image.Image]]:
    """Yield images whose input shows the whole image, the image turned, and stretched."""
    width, height = original.size
    left, top, right, bottom = image.extent
    seen = min(right - left, width) * min(bottom - top, height) / (width * height)
    across, down = (right - left) / image.tensor.shape[2], (bottom - top) / image.tensor.shape[1]
    distorted = abs(across - down) > _CUT * max(across, down)
    if seen < 1 - _CUT or distorted:
        # What remains of a square after the crop must hold the whole image.
        kept = min(1.0, (right - left) / min(width, height), (bottom - top) / min(width, height))
        side = max(width, height)
        yield f"{_WHOLE}, padded to a square", _padded(original, round(side / kept))
        if not distorted:
            squashed = original.resize((side, side), Image.Resampling.BICUBIC)
            yield f"{_WHOLE}, squashed to a square", _padded(squashed, round(side / kept))
    for name, turn in _TURNS.items():
        yield name, original.transpose(turn)
    # Haze, and too little light or too much, lie over the whole image.
    yield "with its contrast stretched", ImageOps.autocontrast(original, 1, preserve_tone=True)


def _padded(original: Image.Image, side: int) -> Image.Image:
    canvas = Image.new("RGB", (side, side), _GREY)
    canvas.paste(original, ((side - original.width) // 2, (side - original.height) // 2))
    return canvas


def _ranges(tensor: Tensor, original: Image.Image) -> Iterator[tuple[str, Tensor]]:
    """Yield the input in the other usual ranges, if its own is one of them."""
    expected = torch.from_numpy(np.asarray(original).mean((0, 1)) / 255)
    known: dict[str, Tensor] = {}
    for name, (mean, std) in _SCALES.items():
        plain = tensor * _column(std, tensor) + _column(mean, tensor)
        if plain.min() >= -0.01 and plain.max() <= 1.01:
            known[name] = plain
    if not known:
        return
    # A dark image fits several; its mean color fits one.
    own = min(
        known, key=lambda name: float((known[name].mean((1, 2)).cpu() - expected).abs().sum())
    )
    for name, (mean, std) in _SCALES.items():
        if name != own:
            yield (
                f"with {name} instead of {own}",
                (known[own] - _column(mean, tensor)) / _column(std, tensor),
            )


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]
