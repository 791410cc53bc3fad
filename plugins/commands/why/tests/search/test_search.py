"""Search for causes in several regions, and in small ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cvx_why import ErrorReport, why
from cvx_why.search.candidates import margin_map
from cvx_why.search.perturbations import PassCounter, PerturbationRunner
from cvx_why.search.search import Search
from torch import Tensor, nn

from cvx_core import VisionModel
from cvx_core.tasks.catalogue import find_mistakes
from cvx_core.tasks.ground_truth import GroundTruthMask

Box = tuple[slice, slice]
RED = torch.tensor([1.0, 0.0, 0.0])[:, None, None]


def reads_redness() -> nn.Conv2d:
    """Return a convolution that gives r - g at each pixel."""
    redness = nn.Conv2d(3, 1, 1, bias=False)
    with torch.no_grad():
        redness.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
    return redness


class Counts(nn.Module):
    """z_plain = 2, and z_red is a function of the sum of r - g: of how many pixels are red."""

    def __init__(self, red: Callable[[Tensor], Tensor], *, least: float = -1.0) -> None:
        super().__init__()
        self.redness, self.red, self.least = reads_redness(), red, least

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.redness(x).clamp_min(self.least).sum((1, 2, 3))
        return torch.stack([torch.full_like(pixels, 2.0), self.red(pixels)], 1)


class Segments(nn.Module):
    """Calls a pixel red where r - g is above a half, and background elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.redness = reads_redness()

    def forward(self, x: Tensor) -> Tensor:
        redness = 10 * self.redness(x)
        return torch.cat([torch.full_like(redness, 5.0), redness], 1)


def picture(*red: Box) -> Tensor:
    """Return a grey picture (1, 3, 64, 64) with some coloured noise and red boxes."""
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    grey = 0.5 + 0.02 * noise
    for rows, columns in red:
        grey[0, :, rows, columns] = RED
    return grey


def report(net: nn.Module, image: Tensor) -> ErrorReport:
    return why(VisionModel(net, classes=("plain", "red")), image, "plain", budget=100)


def test_a_cause_in_two_places_each_of_them_enough_is_blamed_in_both() -> None:
    # 400 red pixels each: tanh is 0.82 with one, 0.98 with both, and without either 0.
    boxes = [(slice(4, 24), slice(4, 24)), (slice(38, 58), slice(40, 60))]
    found = report(Counts(lambda pixels: 8 * torch.tanh(pixels / 350)), picture(*boxes))
    assert found.margin == pytest.approx(5.8, abs=0.1)
    [region] = found.blamed
    assert all(region.mask[box].mean() > 0.9 for box in boxes)
    assert region.fills["inpaint"].correct


def test_several_regions_are_removed_together_where_none_makes_the_answer_right() -> None:
    # Four squares of 484 pixels add up, more than the first regions hold. At most 300 red pixels
    # are right, so that all four have to go, but for a part of one.
    boxes = [(slice(top, top + 22), slice(left, left + 22)) for top in (5, 37) for left in (5, 37)]
    net = Counts(lambda pixels: 2 + (pixels - 300) / 100)
    found = report(net, picture(*boxes))
    assert found.margin == pytest.approx((4 * 484 - 300) / 100, abs=0.1)
    assert not any(one.correct for region in found.regions for one in region.fills.values())
    assert found.fix is not None
    assert sum(found.fix.mask[box].mean() > 0.5 for box in boxes) >= 3
    assert net(torch.from_numpy(found.fix.inputs)[None]).argmax() == 0


def test_squares_are_of_the_size_of_what_the_error_is_about() -> None:
    model = VisionModel(Segments(), task="segmentation", classes=("background", "red"))
    [image] = model.prepare(picture((slice(20, 30), slice(40, 50))))
    passes = PassCounter(model)
    with passes.attach():
        [prediction] = model.predictions(model.output(image.tensor[None]), [image.frame])
        [mistake] = find_mistakes(prediction, GroundTruthMask(np.zeros((64, 64), dtype=int)))
        runner = PerturbationRunner(model, image, mistake, prediction, passes, 50)
        search = Search(runner, margin_map(runner, runner.inputs))
        search.run(1.0)
    assert mistake.type == "false positive"
    assert search.coarse
    # Ten pixels, with as much around them.
    for one in search.coarse:
        rows, columns = one.mask.nonzero().T
        assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) < 20
