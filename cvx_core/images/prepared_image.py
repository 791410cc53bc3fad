"""Images in the form that a network takes, on any process: no network is needed for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from cvx_core._util.tensors import to_host
from cvx_core._util.text import brief
from cvx_core.errors import InputError, ModelError
from cvx_core.images.bands import Form, Values, as_given, to_colors
from cvx_core.images.geometry import Geometry, measure
from cvx_core.images.image_files import SourceImage
from cvx_core.images.preprocessing import Transform, apply
from cvx_core.images.regions import Extent, Frame


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image, ready for the network.

    Attributes
    ----------
    tensor
        (C, H, W).
    source
        What a person sees.
    extent
        The rectangle of `source` that `tensor` covers.
    note
        What a reader of the overlay must know, or an empty string.
    conversion
        What was converted on the way from the file to the network, or an empty string.
    """

    tensor: torch.Tensor
    source: SourceImage
    extent: Extent
    note: str = ""
    conversion: str = ""

    def __repr__(self) -> str:
        return brief(self)

    @property
    def frame(self) -> Frame:
        """How the input lies over the image."""
        size = self.tensor.shape[2], self.tensor.shape[1]
        return Frame(self.extent, size, self.source.size)

    @property
    def provenance(self) -> dict[str, object]:
        """What a map of the image came from, as far as the image goes; JSON values."""
        return {
            "image_sha256": self.source.digest,
            "conversion": self.conversion,
            "input_size": [self.tensor.shape[2], self.tensor.shape[1]],
            "display_note": self.note,
        }

    def to(self, device: torch.device, dtype: torch.dtype) -> PreparedImage:
        """Return the same with the tensor elsewhere."""
        if self.tensor.device == device and self.tensor.dtype == dtype:
            return self
        return replace(self, tensor=self.tensor.to(device, dtype))


_COLORS = Form()
FIXED_FRAMES = (
    "a module with self.net, self.clip (1, C, T, H, W), self.t and forward(self, x): "
    "clip = self.clip.repeat(len(x), 1, 1, 1, 1); clip[:, :, self.t] = x; return self.net(clip)."
)
"""How a network of clips is explained at one frame."""


class Preparer:
    """Preprocess with the measured geometry of its inputs.

    Parameters
    ----------
    preprocess
        From a PIL image to a float tensor (C, H, W); None refuses all images.
    channels
        Channels that the network takes, if known. An image of so many bands is given to the
        preprocess as it is in the file.
    """

    def __init__(self, preprocess: Transform | None, channels: int | None = None) -> None:
        self.preprocess, self.channels = preprocess, channels
        self._geometries: dict[tuple[int, int, Form], Geometry] = {}
        self._grey: bool | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_geometries": {}}

    def tensor(self, image: SourceImage) -> torch.Tensor:
        """Return the network's input (C, H, W) for an image.

        Raises
        ------
        ModelError
            If there is no preprocess, or it returns another kind of tensor.
        """
        return apply(self._known(), as_given(self._given(image)[0]))

    def geometry(self, size: tuple[int, int], form: Form = _COLORS) -> Geometry:
        """Return what the preprocess does to images of one size (width, height) and form.

        Measured once for each, which takes up to four runs; for the first, a dozen runs find
        whether the preprocess is random.
        """
        key = (*size, form)
        if key not in self._geometries:
            known = bool(self._geometries)
            self._geometries[key] = measure(self._known(), size, form, repeats=known)
        return self._geometries[key]

    def extent(self, image: SourceImage) -> Extent | None:
        """Return the rectangle of an image that its input covers; see `geometry`."""
        return self.geometry(image.size, Form.of(self._given(image)[0])).extent

    def _given(self, image: SourceImage) -> tuple[Values, str]:
        """Return the bands that the preprocess gets, and what was converted for it."""
        bands = image.bands
        if bands is not None and bands.shape[2] == self.channels and self._takes(bands):
            return bands, ""
        if bands is not None and bands.shape[2] not in (1, 3, 4):
            raise InputError(
                f"{image.name} has {bands.shape[2]} bands, and the network takes "
                f"{self.channels or 'an unknown number'}.",
                "Choose bands first and pass an array (H, W, bands).",
            )
        if self.channels == 1 and self._wants_grey(image):
            grey = np.array(image.pil().convert("L"))[:, :, None]
            colored = bool((image.pixels != image.pixels[:, :, :1]).any())
            notes = image.note, "Colors were converted to grey." if colored else ""
            return grey, " ".join(filter(None, notes))
        return image.pixels, image.note

    def _takes(self, bands: Values) -> bool:
        """Whether the preprocess takes bands of this type as they are."""
        # Most transforms expect grey and colors in 8 bits.
        if bands.dtype == np.uint8 or bands.shape[2] > 3:
            return True
        floats = bands.dtype.kind == "f" and not 0 <= float(bands.min()) <= float(bands.max()) <= 1
        return bool(getattr(self.preprocess, "takes_all_bits", False)) and not floats

    def _wants_grey(self, image: SourceImage) -> bool:
        """Whether the preprocess leaves colors as they are, where the network takes grey."""
        if self._grey is None:
            self._grey = apply(self._known(), image.pil()).shape[0] != 1
        return self._grey

    def prepare(self, image: SourceImage) -> PreparedImage:
        """Return an image in the form that the network takes; raises as `tensor`."""
        given, conversion = self._given(image)
        tensor = apply(self._known(), as_given(given))
        geometry = self.geometry(image.size, Form.of(given))
        # Without the bands, which are seen by nobody and may be large.
        pixels = to_colors(given) if given is image.bands else image.pixels
        shown = SourceImage(pixels, image.name, image.digest, path=image.path)
        if geometry.extent is not None:
            return PreparedImage(tensor, shown, geometry.extent, conversion=conversion)
        height, width = tensor.shape[1:]
        return PreparedImage(
            tensor,
            replace(shown, pixels=geometry.to_pixels(tensor)),
            (0.0, 0.0, float(width), float(height)),
            "The preprocess is not a plain resize and crop: the network's input is shown.",
            conversion,
        )

    def _known(self) -> Transform:
        if self.preprocess is None:
            raise ModelError(
                "The model has no preprocess, so it can't take images.",
                "Use VisionModel(module, preprocess=Preprocess(crop=224, resize=256)), or another "
                "function from a PIL image to a tensor (C, H, W); or give prepared tensors.",
            )
        return self.preprocess


def renumbered(images: Sequence[PreparedImage], start: int) -> list[PreparedImage]:
    """Return images with the numbers of those in memory counted from `start`: ``image 16``."""
    found = []
    for k, one in enumerate(images):
        kind, _, number = one.source.name.partition(" ")
        if start and not one.source.path and number == str(k):
            name = f"{kind} {start + k}"
            one = replace(one, source=replace(one.source, name=name))
        found.append(one)
    return found


def prepare_tensor(tensor: torch.Tensor) -> list[PreparedImage]:
    """Return the images of a prepared tensor (B, C, H, W) or (C, H, W).

    Raises
    ------
    InputError
        If it has another shape or dtype, or values that are not finite.
    """
    if tensor.ndim == 5:
        raise InputError(
            f"Volumes and video are out of scope: cvx explains single images (B, C, H, W), got "
            f"{tuple(tensor.shape)}.",
            "Explain one frame in a wrapper that fixes the others: " + FIXED_FRAMES,
        )
    batch = tensor[None] if tensor.ndim == 3 else tensor
    if batch.ndim != 4 or not batch.is_floating_point() or 0 in batch.shape:
        raise InputError(
            f"A prepared tensor must be float (B, C, H, W) or (C, H, W), got {batch.dtype} "
            f"{tuple(tensor.shape)}.",
            "Convert and normalize it as the network expects.",
        )
    [host] = to_host([batch.float()])
    if not np.isfinite(host).all():
        raise InputError("The tensor holds values that are not finite.")
    height, width = batch.shape[2:]
    extent = (0.0, 0.0, float(width), float(height))
    note = "The input was a tensor; its pixels are shown, stretched to 0-255."
    return [
        PreparedImage(one, SourceImage(pixels, f"tensor {i}", digest), extent, note)
        for i, (one, pixels, digest) in enumerate(
            zip(batch.detach(), _displays(host), map(_digest, host), strict=True)
        )
    ]


def _displays(values: npt.NDArray[np.float32]) -> list[npt.NDArray[np.uint8]]:
    """Return prepared images (B, C, H, W) as pixels, for display only."""
    values = values[:, :3] if values.shape[1] >= 3 else values[:, :1].repeat(3, axis=1)
    flat = values.reshape(len(values), -1)
    low, high = flat.min(1).astype(np.float64), flat.max(1).astype(np.float64)
    unit = (low >= 0) & (high <= 1)
    start = np.where(unit, 0, low).astype(np.float32)[:, None, None, None]
    span = np.where(unit, 1, np.maximum(high - low, 1e-12)).astype(np.float32)
    scaled = (values - start) / span[:, None, None, None] * np.float32(255)
    pixels = scaled.round().astype(np.uint8).transpose(0, 2, 3, 1)
    return [one.copy() for one in pixels]


def _digest(values: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
