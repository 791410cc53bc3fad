"""Image files: safe decoding, where a bad file raises one clear error."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cvx_core._util.files import read_bytes
from cvx_core.errors import InputError

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that are decoded; those that run programs (EPS) or stubs are left out."""
EXACT = ("PNG", "GIF", "BMP", "TIFF", "PPM")
"""Formats that keep each pixel as it is, unless they contain an image in another format."""


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image as a person sees it.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3), RGB, upright. Read-only.
    name
        File name, or ``image 3`` for the fourth image handed over in memory.
    digest
        SHA-256 of the file's bytes (of the pixels for images in memory), hexadecimal.
    """

    pixels: npt.NDArray[np.uint8]
    name: str
    digest: str

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def pil(self) -> Image.Image:
        """Return a PIL image in mode RGB."""
        return Image.fromarray(self.pixels)


def read_image(source: Any, index: int = 0, *, shown: str = "") -> SourceImage:
    """Return an image from a path, a PIL image or a uint8 array (H, W, 3) or (H, W).

    Parameters
    ----------
    source
        The image.
    index
        Its position in the input.
    shown
        What messages call a file, if not by its path.

    Raises
    ------
    InputError
        If the file is missing, not an image, damaged or too large, or the array has another shape.
    """
    if isinstance(source, SourceImage):
        return source
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source), shown or str(source))
    if isinstance(source, Image.Image):
        with _refusing(f"image {index}"):
            return _source(_to_rgb(source, f"image {index}"), f"image {index}")
    if isinstance(source, np.ndarray):
        return _source(_from_array(source, index), f"image {index}")
    raise InputError(
        f"Unsupported type of image {index}: {type(source).__name__}.",
        "Pass paths, PIL images, uint8 arrays (H, W, 3), or one float tensor (B, C, H, W).",
    )


def _source(image: Image.Image, name: str) -> SourceImage:
    pixels = np.array(image)
    return SourceImage(pixels, name, hashlib.sha256(pixels.tobytes()).hexdigest())


def _read_file(path: Path, shown: str) -> SourceImage:
    data = read_bytes(path, shown)
    if not data:
        raise InputError(f"{shown} is empty.")
    with _refusing(shown), Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        image = _to_rgb(opened, shown)
    return SourceImage(np.array(image), path.name, hashlib.sha256(data).hexdigest())


def read_mask_image(path: Path, way_out: str) -> Image.Image:
    """Return an image whose pixels mean something each: as stored, in the file's own mode.

    Parameters
    ----------
    path
        The file.
    way_out
        What is wanted of it, or instead of it: the hint of every error.

    Raises
    ------
    InputError
        If it can't be read, is too large, or its format may change pixels (see `EXACT`).
    """
    name, data = str(path), read_bytes(path, way_out=way_out)
    with (
        _refusing(name, way_out),
        Image.open(io.BytesIO(data), formats=FORMATS) as opened,
    ):
        packed = str(opened.info.get("compression", ""))
        if opened.format not in EXACT or re.search("jpeg|jp2|webp", packed):
            raise InputError(
                f"{name} is a {opened.format} {packed}".rstrip()
                + ", which may change pixels a little.",
                "Save it as PNG. " + way_out,
            )
        if opened.width * opened.height > MAX_PIXELS:
            raise _too_large(name, f"{opened.width} x {opened.height}")
        return opened.copy()


@contextmanager
def _refusing(name: str, way_out: str = "") -> Iterator[None]:
    """Turn whatever Pillow raises for a damaged image into an `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow looks before we can, and says the number in words alone.
        number = re.search(r"\((\d+) pixels\)", str(error))
        raise _too_large(name, number[1] if number else "too many") from error
    # What Pillow's own fuzzers allow its decoders to raise, and what they raise besides.
    except (
        OSError,
        SyntaxError,
        ValueError,
        ArithmeticError,
        LookupError,
        MemoryError,
        TypeError,
        AttributeError,
        RuntimeError,
        EOFError,
    ) as error:
        kind, usual = "damaged", "Copy or save it again."
        if isinstance(error, UnidentifiedImageError):
            kind, usual = "not a readable image", f"Readable: {', '.join(FORMATS)}."
        elif isinstance(error, OSError) and error.errno is not None:
            kind, usual = "not readable", "Check its permissions and the disk."
        raise InputError(f"{name} is {kind}: {_reason(error)}.", way_out or usual) from error


def _reason(error: BaseException) -> str:
    """Return what a decoder says, without memory addresses and the full stop."""
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"
    # An OSError's text repeats the file's name, which is said already.
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "the file", text).rstrip(".")


def _too_large(name: str, number: str) -> InputError:
    return InputError(
        f"{name} has {number} pixels.",
        f"At most {MAX_PIXELS // 10**6} million are read; shrink it first.",
    )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Turn upright, lay transparency on white, and bring any mode to 8-bit RGB."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height}")
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    # Damaged EXIF is common and no reason to refuse the pixels.
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError):
        image = image.copy()
    if image.width < 1 or image.height < 1:
        raise InputError(f"{name} has no pixels.")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring 16-bit or float grey values to 0..255 by their nominal range, else by their own."""
    array = np.nan_to_num(values.astype(np.float64))
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.round((array - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


def _from_array(array: npt.NDArray[Any], index: int) -> Image.Image:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        hint = "An image array is uint8 (H, W, 3) in RGB, values 0 to 255."
        if array.dtype.kind == "f":
            hint += " A prepared batch is a torch tensor (B, C, H, W)."
        raise InputError(f"Unsupported array for image {index}: {array.dtype} {array.shape}.", hint)
    if 0 in array.shape:
        raise InputError(f"Image {index} is an array {array.shape} without pixels.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)), f"image {index}")
