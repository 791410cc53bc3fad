"""What is in the file reaches the preprocess of a network that takes it; what not is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvx_core import ClassScore, Preprocess, VisionModel, get_explainer
from cvx_core.errors import InputError, ModelError, OptionError
from cvx_core.images import read_image

RNG = np.random.default_rng(0)
FOUR = RNG.integers(0, 256, (20, 30, 4), np.uint8)
"""Red, green, blue and near infrared."""


class Seen:
    """Scales to [0, 1], and remembers what it was given first."""

    def __init__(self) -> None:
        self.first: Any = None

    def __call__(self, image: Any) -> torch.Tensor:
        self.first = image if self.first is None else self.first
        values = np.asarray(image)
        values = values[:, :, None] if values.ndim == 2 else values
        scale = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
        return torch.from_numpy(values.astype(np.float32) / scale).permute(2, 0, 1)


def network(channels: int, preprocess: Any) -> VisionModel:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return VisionModel(net.eval(), preprocess)


@pytest.mark.parametrize("kind", ["file", "array", "image"])
def test_a_fourth_band_is_a_band_where_the_network_takes_four(tmp_path: Path, kind: str) -> None:
    Image.fromarray(FOUR).save(tmp_path / "four.png")
    source: Any = {
        "file": tmp_path / "four.png",
        "array": FOUR,
        "image": Image.fromarray(FOUR),
    }[kind]
    seen = Seen()
    model = network(4, seen)
    [prepared] = model.prepare(source)
    expected = torch.from_numpy(FOUR.astype(np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(prepared.tensor, expected)
    assert seen.first.mode == "RGBA"
    assert np.array_equal(prepared.source.pixels, FOUR[:, :, :3]), "shown without the fourth band"
    assert prepared.conversion == ""
    assert prepared.extent == (0, 0, 30, 20)
    with torch.no_grad():
        logits = model.module(expected[None])[0]
    [one] = get_explainer("input-x-gradient").explain(model, source, ClassScore(0))
    assert model.predict(source)[0].logits == pytest.approx(logits.numpy(), rel=1e-5)
    assert one.values.shape == (20, 30)


def test_transparency_lies_on_white_where_the_network_takes_colors(tmp_path: Path) -> None:
    Image.fromarray(FOUR).save(tmp_path / "four.png")
    seen = Seen()
    [prepared] = network(3, seen).prepare(tmp_path / "four.png")
    alpha = FOUR[:, :, 3:] / 255
    on_white = FOUR[:, :, :3] * alpha + 255 * (1 - alpha)
    assert np.abs(np.asarray(seen.first) - on_white).max() <= 1
    assert prepared.conversion == "Transparency was laid on white."
    [one] = get_explainer("saliency").explain(network(3, Seen()), tmp_path / "four.png")
    assert one.provenance["conversion"] == "Transparency was laid on white."


def test_a_network_of_one_channel_gets_grey() -> None:
    seen, colors = Seen(), FOUR[:, :, :3]
    [prepared] = network(1, seen).prepare(colors)
    assert prepared.tensor.shape == (1, 20, 30)
    weighted = colors @ np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's L
    assert np.abs(prepared.tensor[0].numpy() * 255 - weighted).max() <= 1
    assert prepared.conversion == "Colors were converted to grey."
    [prepared] = network(1, Seen()).prepare(colors[:, :, 0])
    assert np.array_equal(prepared.tensor[0].numpy() * 255, colors[:, :, 0])
    assert prepared.conversion == ""


def test_a_preprocess_that_makes_grey_itself_still_gets_colors() -> None:
    def mean(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).float().mean(2)[None] / 255

    [prepared] = network(1, mean).prepare(FOUR[:, :, :3])
    expected = FOUR[:, :, :3].mean(2) / 255
    torch.testing.assert_close(prepared.tensor[0].numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [4, 6, 13])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_files_of_many_bands_and_bits_are_given_as_they_are(
    tmp_path: Path, dtype: str, bands: int, planes: str
) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = RNG.random((20, 30, bands))
    values = values.astype(dtype) if dtype[0] == "f" else (values * 255).astype(dtype)
    stored = values if planes == "contig" else np.moveaxis(values, 2, 0)
    options = {"photometric": "minisblack", "planarconfig": planes}
    tifffile.imwrite(tmp_path / "bands.tif", stored, **options)
    seen = Seen()
    [prepared] = network(bands, seen).prepare(tmp_path / "bands.tif")
    assert np.array_equal(np.asarray(seen.first), values)
    assert np.asarray(seen.first).dtype == dtype
    assert prepared.extent == (0, 0, 30, 20)
    assert prepared.conversion == ""
    if bands > 4:
        with pytest.raises(InputError, match=f"has {bands} bands, and the network takes 3"):
            network(3, Seen()).prepare(tmp_path / "bands.tif")


@pytest.mark.parametrize("bands", [1, 3])
def test_sixteen_bits_are_kept_by_our_preprocess_and_said_for_others(
    tmp_path: Path, bands: int
) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = RNG.integers(0, 65536, (24, 24, bands)).astype(np.uint16)
    stored, photometric = (values, "rgb") if bands == 3 else (values[:, :, 0], "minisblack")
    tifffile.imwrite(tmp_path / "deep.tif", stored, photometric=photometric)
    ours = Preprocess(24, mean=(0.0,) * bands, std=(1.0,) * bands)
    [prepared] = network(bands, ours).prepare(tmp_path / "deep.tif")
    expected = np.moveaxis(values / np.float32(65535), 2, 0)
    assert np.abs(prepared.tensor.numpy() - expected).max() < 1e-6
    assert prepared.conversion == ""
    [prepared] = network(bands, Seen()).prepare(tmp_path / "deep.tif")
    assert np.abs(prepared.tensor.numpy() - expected).max() < 0.6 / 255
    assert prepared.conversion == "16 bits were brought to 8."


def test_bands_are_resized_one_by_one() -> None:
    """Where the fourth band is zero, the others are kept: it is no opacity."""
    values = np.full((20, 20, 4), 200, np.uint8)
    values[:, :10, 3] = 0
    found = Preprocess(10, mean=(0.0,) * 4, std=(1.0,) * 4)(Image.fromarray(values))
    torch.testing.assert_close(found[:3], torch.full((3, 10, 10), 200 / 255))
    with pytest.raises(ModelError, match="of 4 channels, and the image has 3"):
        Preprocess(10, mean=(0.0,) * 4, std=(1.0,) * 4)(values[:, :, :3])
    with pytest.raises(OptionError, match="one value for each channel, got 4 and 3"):
        Preprocess(10, mean=(0.0,) * 4)


def test_without_tifffile_the_message_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "bands.tif", RNG.random((20, 30, 6)), **options)
    monkeypatch.setattr("cvx_core.images.image_files.optional_module", lambda _: None)
    with pytest.raises(InputError, match=r"(?s)more bands or bits than Pillow.*Install tifffile"):
        read_image(tmp_path / "bands.tif")


class ByName:
    """Takes its image by name and returns a mapping, as albumentations does."""

    def __call__(self, *args: Any, **data: Any) -> dict[str, torch.Tensor]:
        if args:
            raise KeyError("You have to pass data to augmentations as named arguments")
        assert isinstance(data["image"], np.ndarray)
        return {"image": Seen()(data["image"][:16, :16])}


def test_a_preprocess_that_wants_named_arguments_gets_them() -> None:
    [prepared] = network(3, ByName()).prepare(FOUR[:, :, :3])
    expected = FOUR[:16, :16, :3].astype(np.float32) / 255
    torch.testing.assert_close(prepared.tensor, torch.from_numpy(expected).permute(2, 0, 1))
    assert prepared.extent == pytest.approx((0, 0, 16, 16), abs=0.05)


def test_an_error_of_a_preprocess_stays_its_own() -> None:
    def broken(image: Image.Image) -> torch.Tensor:
        raise TypeError("of its own")

    with pytest.raises(ModelError, match="preprocess failed: TypeError: of its own") as found:
        network(3, broken).prepare(FOUR[:, :, :3])
    assert isinstance(found.value.__cause__, TypeError)


def test_the_random_step_of_a_preprocess_is_named() -> None:
    """A flip is not seen on a plain image, nor always on two runs."""
    from torchvision import transforms

    steps = [
        transforms.Resize(16),
        transforms.CenterCrop(16),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
    ]
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="random: runs of RandomHorizontalFlip on one image"):
        network(3, transforms.Compose(steps)).prepare(FOUR[:, :, :3])
    del steps[2]
    network(3, transforms.Compose(steps)).prepare(FOUR[:, :, :3])
