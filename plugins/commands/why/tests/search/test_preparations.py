"""Other preparations of an image: planted faults before the network are named, and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_why.search.preparations import STRONG
from PIL import Image
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import Preprocess

SIDE = 32


class Places(nn.Module):
    """Two logits: of "dark", which is constant, and of "marked": what is red in the upper third."""

    def __init__(self, strength: float = 20.0, lead: float = 1.0, contrast: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -0.5, -0.5])[None, :, None, None])
            self.conv.bias.zero_()
        self.strength, self.lead, self.contrast = strength, lead, contrast

    def forward(self, x: Tensor) -> Tensor:
        red = self.conv(x).relu()[:, 0]
        if self.contrast:  # then the range of the values is all the same
            red = red / x.abs().amax((1, 2, 3), keepdim=True)[:, 0]
        top = red[:, : x.shape[2] // 3].mean((1, 2))
        return torch.stack([torch.full_like(top, self.lead), self.strength * top], 1)


def picture(
    top: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (64, 64)
) -> Image.Image:
    """A grey image with a stripe along the upper edge, and noise that makes sides differ."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 120, (size[1], size[0], 1)).repeat(3, 2).astype(np.uint8)
    pixels[: size[1] // 5] = top
    return Image.fromarray(pixels)


def model(mean: float = 0.0, std: float = 1.0, **options: float) -> cvx.VisionModel:
    return cvx.VisionModel(
        Places(**options),
        Preprocess(crop=SIDE, resize=SIDE, mean=(mean,) * 3, std=(std,) * 3),
        classes=("dark", "marked"),
    )


def names(image: Image.Image, one: cvx.VisionModel, budget: int = 60) -> list[str]:
    report = cvx.why(one, image, "marked", budget=budget)
    assert report.passes <= budget
    assert report.margin > 0
    if report.preparations:
        first = report.preparations[0]
        assert first.text in report.text.splitlines()
        assert report.to_dict()["preparations"][0]["name"] == first.name
    return [found.name for found in report.preparations]


@pytest.mark.parametrize(
    ("turn", "name"),
    [
        (Image.Transpose.ROTATE_90, "turned clockwise by 90°"),
        (Image.Transpose.ROTATE_270, "turned counterclockwise by 90°"),
        (Image.Transpose.ROTATE_180, "turned by 180°"),
    ],
)
def test_a_turned_image_is_named(turn: Image.Transpose, name: str) -> None:
    assert names(picture().transpose(turn), model(lead=6.0, contrast=True)) == [name]


def test_colors_in_another_order_are_named() -> None:
    assert names(picture((0, 0, 255)), model()) == ["with red and blue exchanged"]


def test_a_part_that_the_crop_cuts_off_is_named() -> None:
    tall = picture(size=(64, 160))
    found = names(tall, model())
    assert set(found) == {
        "with the whole image, padded to a square",
        "with the whole image, squashed to a square",
    }
    assert names(tall, model(), budget=50) == []


def test_the_range_that_the_network_expects_is_named() -> None:
    """Values of 0 to 1 are too small for the class to win, those of 0 to 255 are not."""
    assert names(picture(), model(strength=0.5)) == [
        "with values from 0 to 255 instead of values from 0 to 1"
    ]
    assert names(picture(), model(0.5, 0.5, strength=0.5)) == [
        "with values from 0 to 255 instead of values from -1 to 1"
    ]


def test_haze_is_named() -> None:
    """A quarter of the image is left under grey: of the stripe's redness too."""
    hazy = Image.blend(picture(), Image.new("RGB", (64, 64), (128, 128, 128)), 0.75)
    assert "with its contrast stretched" in names(hazy, model(lead=6.0))
    assert names(picture((128, 128, 128)), model(lead=6.0)) == []


def test_a_near_tie_that_any_change_turns_is_no_finding() -> None:
    """Turned, the true class leads by less than the bar."""
    turned = picture().transpose(Image.Transpose.ROTATE_180)
    one = model(strength=1.2 * STRONG, lead=1.0)
    upright = one.predict([picture()])[0].logits
    assert 0 < upright[1] - upright[0] < STRONG
    assert names(turned, one) == []


def test_a_tensor_and_a_true_prediction_are_not_prepared_again() -> None:
    one = model(0.4, 0.3)
    turned = one.preprocess(picture((200, 30, 30)).transpose(Image.Transpose.ROTATE_180))[None]
    report = cvx.why(one, turned, "marked")
    assert report.preparations == ()
    assert report.passes <= 50
    right = cvx.why(one, picture(), "marked", rival="dark")
    assert right.preparations == ()


def test_the_first_conclusion_is_the_other_preparation(tmp_path) -> None:  # type: ignore[no-untyped-def]
    report = cvx.why(model(), picture().transpose(Image.Transpose.ROTATE_180), "marked")
    report.save(tmp_path)
    page = (tmp_path / "index.html").read_text()
    first = page.split('<ul class="conclusion">')[1].split("</li>")[0]
    assert "Turned by 180°, the prediction is correct: marked" in first
