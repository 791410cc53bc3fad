"""What a position reads: the derivative of one cell at the pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cvx_core import (
    MethodError,
    OptionError,
    Preprocess,
    Requirements,
    VisionModel,
    get_explainer,
)
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models

Array = npt.NDArray[np.float64]


class Linear(nn.Module):
    """Three convolutions without activation, of total stride 2, on a torus."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torus = {"bias": False, "padding_mode": "circular", "dtype": torch.float64}
        self.body = nn.Sequential(
            nn.Conv2d(channels, 4, 3, stride=2, padding=1, **torus),
            nn.Conv2d(4, 3, 3, padding=1, **torus),
            nn.Conv2d(3, 2, 3, padding=1, **torus),
        )
        self.head = nn.Linear(2, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def composed(net: Linear) -> Array:
    """Return the one kernel (out, in, k, k) that the three make, written as sums over offsets.

    Cell u of the last layer reads cell u + a of the second, that reads u + a + b of the first,
    and that reads pixel 2 (u + a + b) + c: the composed offset is 2 (a + b) + c, from -5 to 5.
    """
    first, second, third = (conv.weight.detach().numpy() for conv in net.body)
    kernel = np.zeros((2, first.shape[1], 11, 11))
    steps = range(-1, 2)
    for ay in steps:
        for ax in steps:
            for by in steps:
                for bx in steps:
                    both = third[:, :, ay + 1, ax + 1] @ second[:, :, by + 1, bx + 1]
                    top, left = 2 * (ay + by) + 5 - 1, 2 * (ax + bx) + 5 - 1
                    kernel[:, :, top : top + 3, left : left + 3] += np.einsum(
                        "om,mikl->oikl", both, first
                    )
    return kernel


def reads(model: VisionModel, batch: Tensor, x: float, y: float, **parameters: object) -> Array:
    """Return the map of a query at (x, y)."""
    explainer = get_explainer("location-attention", query=(x, y), **parameters)
    [one] = explainer.explain(model, batch)
    assert one.provenance["mode"] == "reads"
    return one.values.astype(np.float64)


@pytest.fixture
def linear() -> VisionModel:
    torch.manual_seed(0)
    return VisionModel(Linear())


@pytest.fixture
def grey() -> Tensor:
    return torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("channel", [0, 1])
def test_a_stack_of_convolutions_reads_its_composed_kernel(
    linear: VisionModel, grey: Tensor, channel: int
) -> None:
    """Cell (6, 9) lies at pixel (18, 12): around it |K|, and exactly nothing anywhere else."""
    expected = np.zeros((32, 32))
    expected[12 - 5 : 12 + 6, 18 - 5 : 18 + 6] = np.abs(composed(linear.module)[channel, 0])
    found = reads(linear, grey, 18.5, 12.5, layer="body.2", channel=channel)
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())
    assert np.count_nonzero(found[expected == 0]) == 0


def test_the_channels_of_the_image_are_taken_together_as_a_length() -> None:
    """sqrt(sum_i K_i^2) over the colours i."""
    torch.manual_seed(0)
    model = VisionModel(Linear(3))
    expected = np.zeros((32, 32))
    expected[7:18, 13:24] = np.sqrt((composed(model.module)[1] ** 2).sum(0))
    found = reads(model, models.inputs(1), 18.5, 12.5, layer="body.2", channel=1)
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


def test_without_a_channel_the_cell_is_followed_along_its_own_activation(
    linear: VisionModel, grey: Tensor
) -> None:
    """v = A_q / |A_q|, so the map is |v_1 K_1 + v_2 K_2|."""
    with torch.no_grad():
        own = linear.module.body(grey)[0, :, 6, 9].numpy()
    kernel = composed(linear.module)[:, 0]
    expected = np.zeros((32, 32))
    expected[7:18, 13:24] = np.abs(np.tensordot(own / np.linalg.norm(own), kernel, 1))
    found = reads(linear, grey, 18.5, 12.5, layer="body.2")
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


def test_the_next_cell_reads_the_same_one_stride_further(linear: VisionModel, grey: Tensor) -> None:
    """Two pixels on; over the border it comes back on the other side of the torus."""
    here = reads(linear, grey, 18.5, 12.5, layer="body.2", channel=0)
    for cells in (1, 6):
        there = reads(linear, grey, 18.5 + 2 * cells, 12.5, layer="body.2", channel=0)
        np.testing.assert_allclose(there, np.roll(here, 2 * cells, 1), atol=1e-6 * here.max())


@pytest.mark.parametrize(
    ("build", "layer"), [(models.convolutional, "third"), (models.tokens, "blocks.0")]
)
def test_what_a_cell_reads_is_the_transpose_of_what_a_pixel_affects(
    build: Callable[[], VisionModel], layer: str
) -> None:
    """<v, J u> = <J^T v, u>, with J u by forward differentiation of the layer."""
    model, batch = build().to(dtype=torch.float64), models.inputs(2).double()
    net, generator = model.module, torch.Generator().manual_seed(0)

    def part(x: Tensor) -> Tensor:
        if layer == "third":
            return net.third(net.second(net.norm(net.first(x)).relu()).relu())
        tokens = net.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([net.cls.expand(len(x), -1, -1), tokens], 1) + net.position
        return net.blocks[0](tokens)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    u = noise(batch)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        output, pushed = torch.func.jvp(part, (batch,), (u,))
    v = noise(output)
    with open_recording(model, batch, Requirements(layer, "input")) as recording:
        pulled = recording.pull(v, at=layer, to="input")
    # sums of some thousand products in float64
    torch.testing.assert_close((v * pushed).sum(), (pulled * u).sum(), rtol=1e-10, atol=0)


def test_the_query_is_in_pixels_of_the_photograph() -> None:
    """A image of 64 x 32 whose middle 32 x 32 the network sees, one to one.

    Pixel (40, 12) is then pixel (24, 12) of the input, in cell (6, 12).
    """
    torch.manual_seed(0)
    model = VisionModel(Linear(3), preprocess=lambda image: Preprocess(32)(image).double())
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    explainer = get_explainer("location-attention", layer="body.2", query=(40, 12), channel=0)
    [one] = explainer.explain(model, Image.fromarray(noise))
    # where the crop lies is measured, to a fraction of a pixel
    assert one.extent == pytest.approx((16, 0, 48, 32), abs=0.05)
    assert (one.provenance["query_row"], one.provenance["query_column"]) == (6, 12)
    rows, columns = np.nonzero(one.values)
    assert (rows.min(), rows.max()) == (12 - 5, 12 + 5)
    assert (columns.min(), columns.max()) == (24 - 5, 24 + 5)
    for outside in ((8, 12), (48.1, 12), (30, -1), (30, 32.1)):
        with pytest.raises(MethodError, match="outside the network's input") as caught:
            get_explainer("location-attention", query=outside).explain(
                model, Image.fromarray(noise)
            )
        assert caught.value.hint == "The input covers x from 16 to 48, y from 0 to 32."


def test_pixels_that_a_cell_does_not_see_are_exactly_zero() -> None:
    """A patch token knows nothing of other patches before the first attention."""
    model, batch = models.tokens(), models.inputs(1)
    found = reads(model, batch, 12, 20, layer="patches")
    inside = np.zeros((32, 32), bool)
    inside[16:24, 8:16] = True
    assert (found[inside] > 0).all()
    assert np.count_nonzero(found[~inside]) == 0


def test_a_channel_that_is_not_there_is_refused() -> None:
    explainer = get_explainer("location-attention", layer="third", query=(1, 1), channel=12)
    with pytest.raises(OptionError, match=r"channel must be from 0 to 11 .*, got 12"):
        explainer.explain(models.convolutional(), models.inputs(1))
