"""Where a preprocess crops is measured, and agrees with the formula of the transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps

from cvx_core.errors import ModelError, OptionError
from cvx_core.images.geometry import measure
from cvx_core.images.preprocessing import Preprocess, apply

SIZES = [(320, 240), (240, 320), (64, 48), (500, 333), (1024, 300), (30, 30), (2000, 1500)]


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def central(size: tuple[int, int], share: float) -> tuple[float, float, float, float]:
    """The central square of a share of the shorter side."""
    width, height = size
    side = share * min(size)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def assert_close(found: Any, expected: Any, size: tuple[int, int], crop: int) -> None:
    # A transform rounds its sizes and its crop to whole pixels of the resized photograph.
    pixel = max(1.0, min(size) / crop)
    np.testing.assert_allclose(found, expected, atol=1.5 * pixel)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (224, 224), (224, 232), (32, 40)])
def test_resize_and_crop_is_measured_where_the_formula_has_it(
    size: tuple[int, int], crop: int, resize: int
) -> None:
    found = measure(Preprocess(crop, resize), size).extent
    assert_close(found, central(size, crop / resize), size, crop)


@pytest.mark.parametrize("size", SIZES)
def test_crop_first_is_measured_where_the_formula_has_it(size: tuple[int, int]) -> None:
    found = measure(Preprocess(224, 256, crop_first=True), size).extent
    assert_close(found, central(size, 224 / 256), size, 224)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_the_filter_does_not_move_what_is_measured(interpolation: str) -> None:
    found = measure(Preprocess(224, 256, interpolation=interpolation), (500, 400)).extent
    assert_close(found, central((500, 400), 224 / 256), (500, 400), 224)


@settings(max_examples=25, deadline=None)
@given(st.integers(40, 700), st.integers(40, 700), st.sampled_from([64, 128]), st.integers(0, 40))
def test_any_size_of_photograph_is_measured_where_the_formula_has_it(
    width: int, height: int, crop: int, more: int
) -> None:
    found = measure(Preprocess(crop, crop + more), (width, height)).extent
    assert_close(found, central((width, height), crop / (crop + more)), (width, height), crop)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_torchvision_transform_is_measured_where_its_formula_has_it(
    size: tuple[int, int], antialias: bool
) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    transform = transforms.Compose(
        [
            transforms.PILToTensor(),
            transforms.Resize(256, antialias=antialias),
            transforms.CenterCrop(224),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    assert_close(measure(transform, size).extent, central(size, 224 / 256), size, 224)


@pytest.mark.parametrize("size", SIZES)
def test_squashing_to_a_square_covers_the_whole_photograph(size: tuple[int, int]) -> None:
    def squash(image: Image.Image) -> torch.Tensor:
        return pixels(image.resize((224, 224)))

    np.testing.assert_allclose(measure(squash, size).extent, (0, 0, *size), atol=1e-6)


@pytest.mark.parametrize(("size", "extent"), [((400, 200), (0, -100, 400, 300)),
                                              ((200, 400), (-100, 0, 300, 400))])  # fmt: skip
def test_padding_to_a_square_reaches_beyond_the_photograph(
    size: tuple[int, int], extent: tuple[int, ...]
) -> None:
    def letterbox(image: Image.Image) -> torch.Tensor:
        return pixels(ImageOps.pad(image, (224, 224), color=(114, 114, 114)))

    assert_close(measure(letterbox, size).extent, extent, size, 224)


def test_a_crop_of_a_corner_is_measured_where_it_is() -> None:
    def corner(image: Image.Image) -> torch.Tensor:
        return pixels(image.crop((100, 50, 300, 150)).resize((200, 100)))

    np.testing.assert_allclose(measure(corner, (400, 300)).extent, (100, 50, 300, 150), atol=0.5)


@pytest.mark.parametrize(
    "turn",
    [
        lambda image: image.rotate(30),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: image.transform(
            image.size, Image.Transform.QUAD, (0, 0, 30, 200, 170, 200, 200, 0)
        ),
        lambda image: Image.new("RGB", (224, 224)),
    ],
    ids=["rotation", "mirror", "quarter turn", "perspective", "nothing at all"],
)
def test_what_is_no_resize_and_crop_has_no_extent(
    turn: Callable[[Image.Image], Image.Image],
) -> None:
    assert measure(lambda image: pixels(turn(image)), (200, 200)).extent is None


def test_normalisation_grey_levels_and_inversion_do_not_move_the_extent() -> None:
    def grey(image: Image.Image) -> torch.Tensor:
        return 3 - 2 * pixels(image.resize((64, 64))).mean(0, keepdim=True)

    np.testing.assert_allclose(measure(grey, (300, 200)).extent, (0, 0, 300, 200), atol=1e-6)


def test_a_random_preprocess_is_refused() -> None:
    def augmented(image: Image.Image) -> torch.Tensor:
        return pixels(image.resize((32, 32))) + 0.01 * torch.rand(3, 32, 32)

    with pytest.raises(ModelError, match="without augmentation"):
        measure(augmented, (64, 64))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 2), (3, 300)])
def test_tiny_photographs_are_measured(size: tuple[int, int]) -> None:
    extent = measure(Preprocess(16, 16), size).extent
    assert extent is not None
    left, top, right, bottom = extent
    assert -1 <= left < right <= size[0] + 1
    assert -1 <= top < bottom <= size[1] + 1


def test_the_network_s_input_can_be_shown_again() -> None:
    transform = Preprocess(8, 8)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    geometry = measure(transform, (8, 8))
    np.testing.assert_array_equal(geometry.to_pixels(transform(photo)), np.asarray(photo))


@pytest.mark.parametrize("shape", [(300, 400, 3), (300, 402, 3), (403, 300, 3), (50, 60, 3)])
def test_our_preprocess_gives_what_torchvision_gives(shape: tuple[int, int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    theirs = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    torch.testing.assert_close(Preprocess(224, 256)(photo), theirs(photo))


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "returned a NoneType"),
        (np.zeros((3, 2, 2)), r"returned a ndarray \(3, 2, 2\)"),
        (torch.zeros(2, 2), r"returned a Tensor \(2, 2\)"),
        (torch.zeros(2, 3, 2, 2), "Tensor"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 2, 2), float("nan")), "not finite"),
        ({"pixel_values": torch.zeros(1, 3, 2, 2)}, "returned a dict"),
    ],
)
def test_what_a_preprocess_must_return_is_said(result: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        apply(lambda _: result, Image.new("RGB", (2, 2)))


def test_a_batch_of_one_is_taken_as_its_only_image() -> None:
    assert apply(lambda _: torch.zeros(1, 3, 2, 2), Image.new("RGB", (2, 2))).shape == (3, 2, 2)


@pytest.mark.parametrize(
    "parameters", [{"crop": 0}, {"crop": 8, "resize": 0}, {"crop": 8, "interpolation": "cubic"}]
)
def test_a_preprocess_of_nothing_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Preprocess(**parameters)
