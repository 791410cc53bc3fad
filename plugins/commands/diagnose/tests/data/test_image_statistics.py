"""Statistics of images change as the image is changed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from cvx_diagnose.data.image_statistics import SIDE, TINY, image_statistics, reduce_image
from PIL import Image, ImageFilter


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """Squares of several grays on a dark ground, 200 x 150."""
    pixels = np.full((150, 200, 3), 40, dtype=np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(40):
        top, left = generator.integers(0, (130, 180))
        pixels[top : top + 20, left : left + 20] = generator.integers(60, 255)
    return Image.fromarray(pixels)


def changed(image: Image.Image, factor: float = 1.0, noise: float = 0.0) -> Image.Image:
    pixels = np.asarray(image) * factor
    pixels = pixels + np.random.default_rng(1).normal(0, noise, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=5)
    return Image.open(stream).convert("RGB")


def test_each_statistic_follows_its_change(image: Image.Image) -> None:
    before, _ = image_statistics(image)
    dark, _ = image_statistics(changed(image, 0.25))
    assert dark["brightness"] == pytest.approx(before["brightness"] / 4, abs=0.01)
    assert dark["contrast"] == pytest.approx(before["contrast"] / 4, abs=0.01)
    assert dark["sharpness"] == pytest.approx(before["sharpness"], abs=0.1)
    blurred, _ = image_statistics(image.filter(ImageFilter.GaussianBlur(3)))
    assert blurred["sharpness"] < before["sharpness"] - 1
    noisy, _ = image_statistics(changed(image.convert("RGB"), noise=10))
    # The noise of three independent channels with the weights of the luminance, in [0, 1].
    assert noisy["noise"] == pytest.approx(
        10 / 255 * np.sqrt(0.299**2 + 0.587**2 + 0.114**2), rel=0.15
    )
    assert image_statistics(compressed(image))[0]["blockiness"] > 0.5
    assert abs(before["blockiness"]) < 0.2


def test_edges_turn_with_the_image() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::8] = 255
    upright, _ = image_statistics(Image.fromarray(stripes))
    lying, _ = image_statistics(Image.fromarray(stripes).transpose(Image.Transpose.ROTATE_90))
    assert (upright["edges_upright"], lying["edges_upright"]) == (1.0, -1.0)
    y, x = np.mgrid[:64, :64]
    rising = np.repeat(((x + y) % 16 < 8)[..., None], 3, 2).astype(np.uint8) * 255
    assert image_statistics(Image.fromarray(rising))[0]["edges_diagonal"] > 0.9
    assert image_statistics(Image.fromarray(rising[:, ::-1]))[0]["edges_diagonal"] < -0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 3), (700, 2)])
def test_any_size_has_finite_statistics(size: tuple[int, int]) -> None:
    found, tiny = image_statistics(Image.new("RGB", size, (10, 20, 250)))
    assert np.isfinite(list(found.values())).all()
    assert found["yellow_blue"] == pytest.approx((15 - 250) / 255, abs=0.01)
    assert tiny.shape == (TINY, TINY, 3)
    assert max(reduce_image(Image.new("RGB", size)).size) <= SIDE
