"""Photographs: every kind that is read is read rightly, any other is one clear error."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from cvx_core.errors import InputError
from cvx_core.images import image_files as images
from cvx_core.images.image_files import read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners() -> Image.Image:
    """A 4 x 2 picture: red and green above, blue and white below."""
    picture = Image.new("RGB", (4, 2))
    for x in range(4):
        picture.putpixel((x, 0), RED if x < 2 else GREEN)
        picture.putpixel((x, 1), BLUE if x < 2 else WHITE)
    return picture


def saved(tmp_path: Path, picture: Image.Image, name: str, **options: Any) -> Path:
    path = tmp_path / name
    picture.save(path, **options)
    return path


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_a_picture_is_read_the_same_from_every_lossless_format(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    path = saved(tmp_path, corners(), f"picture.{kind.lower()}", format=kind, **options)
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, np.asarray(corners()))
    assert found.name == path.name
    assert found.size == (4, 2)
    np.testing.assert_array_equal(np.asarray(found.pil()), found.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = corners().transpose(back[orientation]) if orientation in back else corners()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, stored, "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(path).pixels, np.asarray(corners()))


def test_damaged_exif_data_do_not_cost_the_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, corners(), "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    np.testing.assert_array_equal(read_image(path).pixels, np.asarray(corners()))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_grey_with_more_than_eight_bits_keeps_its_brightness(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[0, 32768, 65535]], dtype=dtype)
    path = saved(tmp_path, Image.fromarray(values), "deep.tiff")
    np.testing.assert_array_equal(read_image(path).pixels[0, :, 0], [0, 128, 255])


def test_sixteen_bit_png_keeps_its_brightness(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0, 257 * 77]], np.uint16)), "deep.png")
    np.testing.assert_array_equal(read_image(path).pixels[0, :, 0], [0, 77])


def test_grey_floats_from_zero_to_one_are_brightness(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.2, 1.0, np.nan]], np.float32)
    path = saved(tmp_path, Image.fromarray(values), "float.tiff")
    np.testing.assert_array_equal(read_image(path).pixels[0, :, 0], [0, 51, 255, 0])


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("RGB", (2, 2), WHITE).convert("RGB")
    source = grey.convert("RGB")
    made = Image.new("LAB", (2, 2), (255, 128, 128)) if mode == "LAB" else source.convert(mode)
    found = read_image(made)
    assert found.pixels.dtype == np.uint8
    np.testing.assert_allclose(found.pixels, 255, atol=2)


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (16, 16), RED).convert("CMYK"), "print.jpg")
    np.testing.assert_allclose(read_image(path).pixels[8, 8], RED, atol=4)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    np.testing.assert_allclose(read_image(half).pixels[0, 0], (255, 127, 127), atol=1)
    grey = Image.new("LA", (2, 1), (0, 0))
    assert (read_image(grey).pixels == 255).all()
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    path = saved(tmp_path, palette, "palette.png", transparency=0)
    np.testing.assert_array_equal(read_image(path).pixels[0], [WHITE, GREEN])
    keyed = saved(tmp_path, corners(), "keyed.png", transparency=RED)
    assert read_image(keyed).pixels[0, 0].tolist() == list(WHITE)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    path = saved(tmp_path, frames[0], f"a.{kind}", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read_image(path).pixels[4, 4], RED, atol=3)


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(corners(), "PNG"))
    np.testing.assert_array_equal(read_image(path).pixels, np.asarray(corners()))


@pytest.mark.parametrize("name", ["a b.png", "naïve 😀.png", "-o.png", "a\nb.png", "$(x).png"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, corners(), name, format="PNG")
    assert read_image(path).name == name
    assert read_image(str(path)).name == name


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 3), np.uint8),
        np.zeros((3, 4), np.uint8),
        np.zeros((3, 4, 1), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((6, 8, 3), np.uint8)[::2, ::2],
        np.asfortranarray(np.zeros((3, 4, 3), np.uint8)),
    ],
)
def test_arrays_of_bytes_are_pictures(array: Any) -> None:
    found = read_image(array, 3)
    assert found.pixels.shape == (3, 4, 3)
    assert found.name == "image 3"


def test_an_array_is_copied_so_that_later_changes_do_not_reach_the_picture() -> None:
    array = np.zeros((3, 4, 3), np.uint8)
    found = read_image(array)
    array[:] = 9
    assert not found.pixels.any()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((3, 4, 3)), "A prepared batch is a torch tensor"),
        (np.zeros((3, 4, 3), np.int64), "uint8"),
        (np.zeros((3, 4, 2), np.uint8), r"\(3, 4, 2\)"),
        (np.zeros((2, 3, 4, 3), np.uint8), r"\(2, 3, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "without pixels"),
        (np.zeros(3, np.uint8), r"\(3,\)"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        (3, "Unsupported type of image 7: int"),
        (None, "NoneType"),
        (b"bytes", "bytes"),
        (torch.zeros(3, 4, 4), "Tensor"),
    ],
)
def test_what_is_no_picture_is_named_with_its_place(source: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_image(source, 7)


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    one = saved(tmp_path, corners(), "one.png")
    two = tmp_path / "two.png"
    two.write_bytes(one.read_bytes())
    assert read_image(one).digest == read_image(two).digest
    assert read_image(corners()).digest == read_image(np.asarray(corners())).digest
    assert read_image(corners()).digest != read_image(corners().rotate(180)).digest


def test_the_digest_is_of_the_whole_file_or_of_all_pixels(tmp_path: Path) -> None:
    path = saved(tmp_path, corners(), "one.png")
    assert read_image(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    pixels = bytes((*RED, *RED, *GREEN, *GREEN, *BLUE, *BLUE, *WHITE, *WHITE))
    assert read_image(corners()).digest == hashlib.sha256(pixels).hexdigest()


def png_of(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("size", [(8001, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(*size, b""))
    with pytest.raises(InputError, match="pixels") as caught:
        read_image(path)
    # One message, whether Pillow's limit or ours, which is lower, was met first.
    assert caught.value.message.startswith(f"{path} has ")
    assert caught.value.hint == "At most 64 million are read; shrink it first."


def test_a_bomb_in_memory_is_refused_like_one_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    with pytest.raises(InputError, match="pixels"):
        read_image(Image.new("RGB", (4, 3)))
    with pytest.raises(InputError, match="pixels"):
        read_image(np.zeros((4, 3, 3), np.uint8))


def test_compressed_text_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    body = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(200_000_000))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    good = encoded(corners(), "PNG")
    path = tmp_path / "text.png"
    path.write_bytes(good[:33] + chunk + good[33:])
    with contextlib.suppress(InputError):
        np.testing.assert_array_equal(read_image(path).pixels, np.asarray(corners()))


def test_one_long_row_of_pixels_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (60_000, 1), 7), "long.png")
    assert read_image(path).pixels.shape == (1, 60_000, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_lazily_opened_picture_that_turns_out_damaged_is_an_input_error(kind: str) -> None:
    data = encoded(NOISE, kind)
    with (
        Image.open(io.BytesIO(data[: len(data) * 4 // 5])) as lazy,
        pytest.raises(InputError, match="image 5"),
    ):
        read_image(lazy, 5)


def test_a_picture_handed_over_stays_as_it_was() -> None:
    mine = Image.new("P", (3, 2))
    read_image(mine)
    assert mine.mode == "P"
    assert mine.size == (3, 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_truncated_file_is_refused_and_no_half_picture_made(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut is damaged: .*\nCopy or save it again"):
        read_image(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>404</html>",
        b"\x00" * 4096,
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"BM",
    ],
)
def test_a_file_that_is_no_picture_is_refused_with_what_can_be_read(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match="JPEG, PNG") as caught:
        read_image(path)
    # A person can do nothing with a memory address, and a sentence ends once.
    assert " at 0x" not in caught.value.message
    assert not caught.value.message.endswith("..")


def test_messages_call_a_file_as_the_person_did(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "cat.jpg", shown="cat.jpg")
    assert caught.value.message == ("cat.jpg is not a readable image: unknown format.")


def test_what_is_no_file_at_all_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    for name, says in [
        ("empty.png", "is empty"),
        ("pipe.png", "Not a regular file"),
        ("missing.png", "File not found"),
        (".", "Expected a file, got the folder"),
        ("a\0b.png", "could not be read|File not found"),
        ("x" * 300, "could not be read|File not found"),
    ]:
        with pytest.raises(InputError, match=says):
            read_image(f"{tmp_path}/{name}")
    with pytest.raises(InputError):
        read_image("")


def test_a_device_that_never_ends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/dev/zero")
    for path in ("/dev/zero", tmp_path / "link.png"):
        with pytest.raises(InputError, match="Not a regular file"):
            read_image(path)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_file_that_is_made_up_while_it_is_read_is_not_waited_for(tmp_path: Path) -> None:
    """Its size is 0, as that of /proc/kmsg, which would hang; this one has an end."""
    (tmp_path / "link.png").symlink_to("/proc/self/cmdline")
    assert (tmp_path / "link.png").read_bytes()
    with pytest.raises(InputError, match="is empty"):
        read_image(tmp_path / "link.png")


def test_reading_warns_about_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, corners(), "a.tiff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)


NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 24, 3), dtype=np.uint8))
FILES = {
    kind: encoded(NOISE, kind)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000")
}


@pytest.mark.parametrize("kind", FILES)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_an_input_error(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path / "damaged"
    path.write_bytes(bytes(content[:cut] if data.draw(st.booleans()) else content))
    with contextlib.suppress(InputError):
        found = read_image(path)
        assert found.pixels.dtype == np.uint8
        assert found.pixels.shape[2] == 3
