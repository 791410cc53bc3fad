"""What a position reads and what a patch affects: one Jacobian, seen from its two sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import MethodError, OptionError, VisionModel, explain, get_explainer
from cvx_core.testing import models


class Doubling(nn.Module):
    """A 3 x 3 kernel of 1 to 9 over one channel, and a second channel that is twice the first."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(1, 2, 3, padding=1, bias=False, dtype=torch.float64)
        kernel = torch.arange(1.0, 10.0).reshape(3, 3)
        self.cells.weight = nn.Parameter(torch.stack([kernel, 2 * kernel])[:, None].double())
        self.head = nn.Linear(2, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x).mean((2, 3)))


def test_one_pixel_of_a_convolution() -> None:
    """Pixel (2, 2) meets weight k(2 - u + 1) at cell u: the kernel upside down, times sqrt(5).

    Only the direction of the pixel counts, so its value 7 makes no difference.
    """
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 2, 2] = 7
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = np.arange(9, 0, -1).reshape(3, 3) * 5**0.5
    affects = get_explainer("affects", query=(2.5, 2.5), side=1, layer="cells")
    [one] = affects.explain(VisionModel(Doubling()), image)
    np.testing.assert_allclose(one.values, expected, rtol=1e-6)
    assert one.unit == "activation per unit of input"
    assert one.evidence["class_specific"] is False


def test_a_patch_is_a_direction_of_length_one() -> None:
    """Pixels 3 and 4 side by side: (0.6, 0.8). At the cell to the right of both: 0.6 k_1 + 0.8 k_2.

    Cells in the row of the pixels see the kernel's middle row 4, 5, 6: the right pixel at distance
    0 has weight 5, one cell to its right it has weight 4, where the left pixel is out of sight.
    """
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 2, 1], image[0, 0, 2, 2] = 3, 4
    affects = get_explainer("affects", query=(2.5, 2.5), side=5, layer="cells")
    [one] = affects.explain(VisionModel(Doubling()), image)
    row = np.array([0.6 * 6, 0.6 * 5 + 0.8 * 6, 0.6 * 4 + 0.8 * 5, 0.8 * 4, 0]) * 5**0.5
    np.testing.assert_allclose(one.values[2], row, rtol=1e-6)


def test_cells_out_of_sight_are_exactly_zero() -> None:
    """Before any attention a pixel affects its own token alone."""
    affects = get_explainer("affects", query=(12, 20), side=2, layer="patches")
    [one] = affects.explain(models.tokens(), models.inputs(1))
    assert np.argwhere(one.values).tolist() == [[2, 1]]


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_a_pixel_affects_what_reads_it(build: object) -> None:
    """The cells that a pixel affects are those in whose receptive field it lies."""
    model, batch = build().to(dtype=torch.float64), models.inputs(1)  # type: ignore[operator]
    layer = "third" if model.name.endswith("convolutional") else "blocks.0"
    [one] = get_explainer("affects", query=(13.5, 18.5), side=1, layer=layer).explain(model, batch)
    h, w = one.values.shape
    for row in range(h):
        for column in range(w):
            middle = ((column + 0.5) * 32 / w, (row + 0.5) * 32 / h)
            [read] = get_explainer("reads", query=middle, layer=layer).explain(model, batch)
            assert (read.values[18, 13] > 0) == (one.values[row, column] > 0)


def test_reads_is_the_family_s_map() -> None:
    model, batch = models.convolutional(), models.inputs(2)
    family = get_explainer("location-attention", query=(9, 9), channel=2)
    several = explain(model, batch, [get_explainer("reads", query=(9, 9), channel=2), family])
    for one, other in zip(several[::2], several[1::2], strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.provenance["query_row"] == other.provenance["query_row"] == 2


def test_a_patch_without_content_has_no_direction() -> None:
    affects = get_explainer("affects", query=(2, 2), side=2)
    with pytest.raises(MethodError, match="patch is exactly zero") as caught:
        affects.explain(models.convolutional(), torch.zeros(1, 3, 32, 32))
    assert "larger side" in caught.value.hint


@pytest.mark.parametrize("name", ["reads", "affects"])
def test_the_query_must_be_one_and_lie_inside(name: str) -> None:
    for query in (None, 5, ("left", "top"), (1, 2, 3)):
        with pytest.raises(OptionError, match="query must be"):
            get_explainer(name, query=query)
    with pytest.raises(MethodError, match="outside the network's input"):
        get_explainer(name, query=(32, 5)).explain(models.convolutional(), models.inputs(1))


@pytest.mark.parametrize("side", [0, -1, 2.5, "wide"])
def test_sides_that_mean_nothing_are_refused(side: object) -> None:
    with pytest.raises(OptionError, match="side must be"):
        get_explainer("affects", query=(1, 1), side=side)
