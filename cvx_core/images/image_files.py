"""Image files: safe decoding, where a bad file raises one clear error."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cvx_core._util.environment import optional_module
from cvx_core._util.files import MAX_BYTES, read_bytes
from cvx_core._util.text import brief
from cvx_core.errors import InputError, install_command
from cvx_core.images.bands import to_colors

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that are decoded; those that run programs (EPS) or stubs are left out."""
EXACT = ("PNG", "GIF", "BMP", "TIFF", "PPM")
"""Formats that keep each pixel as it is, unless they contain an image in another format."""


SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .avif .jp2 .j2k".split()  # noqa: SIM905
)
"""Files of a folder with other suffixes are ignored."""

_BANDS = ("L", "RGBA", "RGBX", "CMYK")
"""Modes whose bands may be what a network wants, as they are."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS = 258  # the tag with the bits of each band


@dataclass(frozen=True, eq=False)
class SourceImage:
    """Image as it is displayed, before preprocessing.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3), RGB, upright. Read-only.
    name
        File name, or ``image 3`` for the fourth image handed over in memory.
    digest
        SHA-256 of the file's bytes (of the pixels for images in memory), hexadecimal.
    bands
        (H, W, bands) as stored, upright, where that is something else than `pixels`; or None.
    note
        What was converted for `pixels`, or an empty string.
    path
        Path of the file; empty for images in memory.
    """

    pixels: npt.NDArray[np.uint8]
    name: str
    digest: str
    bands: npt.NDArray[Any] | None = None
    note: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)

    def __repr__(self) -> str:
        return brief(self)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def pil(self) -> Image.Image:
        """Return a PIL image in mode RGB."""
        return Image.fromarray(self.pixels)


def read_image(source: Any, index: int = 0, *, shown: str = "") -> SourceImage:
    """Return an image from a path, a URL, a PIL image or an array (H, W, bands) or (H, W).

    Parameters
    ----------
    source
        The image. Arrays have 8 bits, or with more than 4 bands also 16 bits or floats.
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
    if isinstance(source, str) and is_url(source):
        return decode_image(_fetch(source), source)
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source), shown or str(source))
    if isinstance(source, Image.Image):
        with _refusing(f"image {index}"):
            return _source(*_read_modes(source, f"image {index}"), f"image {index}")
    if isinstance(source, np.ndarray):
        return _source(*_from_array(source, index), f"image {index}")
    raise InputError(
        f"Unsupported type of image {index}: {type(source).__name__}.",
        "Pass paths, folders, PIL images, uint8 arrays (H, W, 3), one float tensor (B, C, H, W), "
        "or a data loader.",
    )


Read = tuple[npt.NDArray[np.uint8], npt.NDArray[Any] | None, str]
"""Pixels, bands and note of a `SourceImage`."""


def _source(
    pixels: npt.NDArray[np.uint8], bands: npt.NDArray[Any] | None, note: str, name: str
) -> SourceImage:
    shown = pixels if bands is None else bands
    digest = hashlib.sha256(np.ascontiguousarray(shown).tobytes()).hexdigest()
    return SourceImage(pixels, name, digest, bands, note)


def is_by_name(value: Any) -> bool:
    """Whether a mapping has a value for each of some images, by path or name."""
    return isinstance(value, Mapping) and bool(value) and all(map(_names_image, value))


def _names_image(key: Any) -> bool:
    if not isinstance(key, str | os.PathLike):
        return False
    text = os.fspath(key)
    in_memory = re.fullmatch(r"(image|tensor) \d+", text)
    return bool(in_memory) or Path(text).suffix.lower() in SUFFIXES


def is_url(text: str) -> bool:
    """Whether a text is a URL, such as ``https://host/photo.jpg``, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None


def _fetch(url: str) -> bytes:
    fsspec = optional_module("fsspec")
    if fsspec is None:
        command = install_command("fsspec", "aiohttp")
        raise InputError(f"Reading {url} needs fsspec.", f"Install it: {command}")
    try:
        with fsspec.open(url, "rb") as file:
            found: bytes = file.read(MAX_BYTES + 1)
    # The boundary to fsspec and the packages behind it, one for each protocol.
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"File not found: {url}.", "Check the URL.") from error
        reason = str(error) or type(error).__name__
        hint = "Check the URL and the network."
        if isinstance(error, ImportError):
            hint = "Install the packages that it names, with pip."
        raise InputError(f"Can't read {url}: {reason.rstrip('.')}.", hint) from error
    if len(found) > MAX_BYTES:
        raise InputError(
            f"{url} is larger than {MAX_BYTES // 1024**2} MB.", "Shrink or split it first."
        )
    return found


def _read_file(path: Path, shown: str) -> SourceImage:
    return decode_image(read_bytes(path, shown), str(path), shown)


def decode_image(data: bytes, path: str, shown: str = "") -> SourceImage:
    """Return an image from the bytes of a file.

    Parameters
    ----------
    data
        The file's content.
    path
        Where it comes from: a path or a URL.
    shown
        What messages call it, if not by its path.

    Raises
    ------
    InputError
        If it is not an image, damaged or too large.
    """
    shown = shown or path
    if not data:
        raise InputError(f"{shown} is empty.")
    with _refusing(shown):
        found = _read_bands(data, shown)
        if found is None:
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                found = _read_modes(opened, shown)
    pixels, bands, note = found
    digest = hashlib.sha256(data).hexdigest()
    return SourceImage(pixels, Path(path).name, digest, bands, note, path)


def _read_bands(data: bytes, name: str) -> Read | None:
    """Return a TIFF file of bands that Pillow can't read, or not with all bits; else None."""
    if data[:4] not in _TIFF:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as opened:
            tags: Any = opened.tag_v2  # type: ignore[attr-defined]
            bits = tags.get(_BITS, (8,))
            if len(bits) == 1 or (len(bits) <= 4 and max(bits) <= 8):
                return None
    except UnidentifiedImageError:
        pass
    # Of the user's: few files have more than four bands, or colors of 16 bits.
    tifffile = optional_module("tifffile")
    if tifffile is None:
        raise InputError(
            f"{name} has more bands or bits than Pillow reads.", "Install tifffile, which reads it."
        )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if page.imagewidth * page.imagelength * page.samplesperpixel > 4 * MAX_PIXELS:
            raise _too_large(name, f"{page.imagewidth} x {page.imagelength}")
        values, axes = page.asarray(), page.axes
    if axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    return _of_bands(np.ascontiguousarray(values if values.ndim == 3 else values[:, :, None]), name)


def _of_bands(values: npt.NDArray[Any], name: str) -> Read:
    """Return bands with the pixels that a person sees."""
    if values.ndim != 3 or values.dtype.kind not in "uif":
        raise InputError(
            f"{name} holds values of {values.dtype} {values.shape}.",
            "Save it with one or more bands of whole numbers or floats.",
        )
    count, bits = values.shape[2], 8 * values.dtype.itemsize
    shown = f"The first {min(3, count)} of {count} bands are shown" if count > 3 else ""
    depth = "" if values.dtype == np.uint8 else f"{bits} bits were brought to 8"
    note = "; ".join(filter(None, (shown, depth)))
    return to_colors(values), values, note + "." if note else ""


def read_mask_image(path: Path, way_out: str) -> Image.Image:
    """Return a mask or a map of values as stored, in the file's own mode.

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
    # What Pillow's own fuzzers allow its decoders to raise; and what they, and tifffile, raise too.
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
        struct.error,
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


def _read_modes(image: Image.Image, name: str) -> Read:
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
        values = np.array(image)[:, :, None]
        if values.dtype.kind == "i" and 0 <= int(values.min()) <= int(values.max()) <= 65535:
            values = values.astype(np.uint16)
        return _of_bands(values, name)
    bands = np.array(image) if image.mode in _BANDS else None
    if bands is not None and bands.ndim == 2:
        bands = bands[:, :, None]
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        opaque = rgba.getchannel("A").getextrema() == (255, 255)
        laid = np.array(Image.alpha_composite(white, rgba).convert("RGB"))
        return laid, bands, "" if opaque else "Transparency was laid on white."
    note = f"{image.mode} was converted to RGB." if image.mode in ("CMYK", "YCbCr", "LAB") else ""
    return np.array(image.convert("RGB")), bands, note


def _from_array(array: npt.NDArray[Any], index: int) -> Read:
    grey = array.ndim == 2
    if array.ndim == 3 and array.shape[2] > 4 and min(array.shape[:2]) > 0:
        return _of_bands(np.array(array), f"image {index}")
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        hint = "An image array is uint8 (H, W, 3) in RGB, values 0 to 255."
        if array.dtype.kind == "f":
            hint += " A prepared batch is a torch tensor (B, C, H, W)."
        raise InputError(f"Unsupported array for image {index}: {array.dtype} {array.shape}.", hint)
    if 0 in array.shape:
        raise InputError(f"Image {index} is an array {array.shape} without pixels.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _read_modes(Image.fromarray(np.ascontiguousarray(array)), f"image {index}")
