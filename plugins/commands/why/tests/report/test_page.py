"""HTML page of a report, and its images and sentences."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_why import ErrorReport, why
from cvx_why.report.images import center, contour_path, fill_region, network_view
from cvx_why.report.page import page
from cvx_why.report.summary import conclusions, describe_profile, position
from cvx_why.search.regions import FillReport
from torch import Tensor, nn

from cvx_core import Metadata, VisionModel


class Red(nn.Module):
    """Answers red by the share of red pixels, and plain otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.redness = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.redness.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
            self.redness.bias.fill_(-0.3)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        red = torch.relu(self.redness(x)).mean((1, 2, 3))
        return torch.stack([torch.full_like(red, 2.0), 200 * red], 1)


@pytest.fixture(scope="module")
def report() -> ErrorReport:
    picture = torch.full((1, 3, 64, 64), 0.5)
    picture[0, :, 40:52, 4:16] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    model = VisionModel(Red(), classes=("<plain> & 'old'", "red"), name="sees-red")
    return why(model, picture, 0)


def test_the_page_says_what_was_blamed_and_that_it_was_verified(report: ErrorReport) -> None:
    shown = page(report)
    assert "Predicted <b>red 9" in shown
    assert "lower left" in shown
    assert "verified" in shown
    assert "Smallest perturbation found that corrects the prediction" in shown


def test_each_fill_is_shown_with_the_margin_and_the_answer_it_left(report: ErrorReport) -> None:
    shown = page(report)
    for name, fill in report.regions[0].fills.items():
        assert f"<b>{name}</b>" in shown
        assert f"margin {report.margin + fill.change:+.2f}" in shown
        assert fill.note.startswith("<plain> & 'old' ")  # the prediction without the square


def test_names_are_never_markup(report: ErrorReport) -> None:
    shown = page(replace(report, name="</title><script>x</script>"))
    assert "<script" not in shown
    assert "<plain>" not in shown
    assert "&lt;plain&gt;" in shown


def test_the_page_asks_nobody_for_anything(report: ErrorReport) -> None:
    shown = page(report)
    assert not re.search(r"https?://", shown)
    assert set(re.findall(r'(?:src|href)="([^"]{0,10})', shown)) == {"data:image", "maps.html"}


def test_a_right_answer_has_a_page_that_blames_nothing() -> None:
    model = VisionModel(Red(), classes=("plain", "red"))
    shown = page(why(model, torch.full((1, 3, 64, 64), 0.5), 0))
    assert "The prediction is correct" in shown
    assert "blamed" not in shown


def test_save_writes_the_page_and_the_maps_beside_it(report: ErrorReport, tmp_path: Path) -> None:
    files = {file.name for file in report.save(tmp_path)}
    assert files == {"index.html", "maps.html", "blame.png", "contrast.png", "why.json"}
    assert (tmp_path / "index.html").read_text() == page(report)


def test_an_outline_is_the_edge_of_a_region() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 2:4] = True
    # Two horizontal sides of x 2 to 4 at y 1 and 3, two vertical ones of y 1 to 3 at x 2 and 4.
    assert contour_path(mask) == "M2 1H4M2 3H4M2 1V3M4 1V3"


def test_an_outline_at_the_pictures_edge_stays_inside() -> None:
    assert contour_path(np.ones((2, 3), dtype=bool)) == "M0 0H3M0 2H3M0 0V2M3 0V2"


def test_the_middle_of_a_ring_lies_on_the_ring() -> None:
    mask = np.ones((5, 5), dtype=bool)
    mask[1:4, 1:4] = False
    x, y = center(mask)
    assert mask[int(y), int(x)]


def test_what_is_shown_without_a_region_differs_there_alone(report: ErrorReport) -> None:
    picture, mask = network_view(report.blame, 64), report.regions[0].mask
    shown = fill_region(picture, mask, "inpaint")
    assert shown is not None
    changed = (np.asarray(shown) != np.asarray(picture)).any(2)
    assert changed.any()
    assert not (changed & ~mask).any()


def test_a_fill_from_another_picture_is_not_made_up(report: ErrorReport) -> None:
    assert fill_region(network_view(report.blame, 64), report.regions[0].mask, "reference") is None


def test_the_conclusion_says_that_nothing_stands_out(report: ErrorReport) -> None:
    assert conclusions(replace(report, regions=(), fix=None))[0].startswith("No region found")


@pytest.mark.parametrize(
    ("at", "words"),
    [((0, 0), "upper left"), ((5, 5), "center"), ((8, 5), "lower"), ((5, 8), "right")],
)
def test_a_place_has_a_name(at: tuple[int, int], words: str) -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[at] = True
    assert position(mask) == words


def test_the_wrong_class_overtakes_where_it_stays_ahead() -> None:
    rows = [
        Metadata(layer=name, cells=cells) for name, cells in zip("abcd", (1, -1, 2, 3), strict=True)
    ]
    assert describe_profile(rows) == "The wrong class leads from layer c on."
    assert describe_profile(rows[2:]) == "The wrong class leads at every layer of the profile."
    assert describe_profile([*rows, Metadata(layer="e", cells=-1.0)]).startswith(
        "The positions support the wrong class at no layer"
    )


def test_a_profile_is_drawn_by_layer() -> None:
    model = VisionModel(Red(), classes=("plain", "red"))
    picture = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    shown = page(why(model, picture, 0, profile=True))
    assert "Layer profile" in shown
    assert "redness" in shown


def test_what_was_cut_off_is_told(report: ErrorReport) -> None:
    assert report.cropped == 0
    cut = replace(report, blame=report.blame.replace(extent=(0, 0, 64, 32)))
    assert cut.cropped == 0.5
    assert conclusions(cut)[-1].startswith("50 % of the image was cropped")
    assert "50 % of the image was cropped" in cut.text
    assert "50 % of the image was cropped" in page(cut)


def test_the_fix_comes_with_the_answer_that_it_makes(report: ErrorReport) -> None:
    assert report.fix is not None
    assert report.fix.note in report.text
    assert report.fix.note in conclusions(report)[-1]


def test_a_fill_that_leads_to_a_third_class_names_it(report: ErrorReport) -> None:
    over, under = -report.margin - 1, -report.margin / 2
    fills = {
        "inpaint": FillReport(over, correct=False, note="scabbard 27.4 %"),
        "blur": FillReport(over, correct=True, note="hammer 28.4 %"),
        "mean": FillReport(under, correct=False, note="hatchet 30.7 %"),
    }
    one = replace(report.regions[0], fills=fills, predicted_change=0.26)
    text = replace(report, regions=(one,)).text
    assert (
        f"inpaint {over:+.2f} (third class predicted: scabbard 27.4 %), blur {over:+.2f} "
        f"(correct), mean {under:+.2f}. Estimate from the gradients: +0.26 (other sign: "
    ) in text
    same = replace(report, regions=(replace(one, predicted_change=-0.26),)).text
    assert "Estimate from the gradients: -0.26." in same


def test_the_lines_around_regions_have_a_legend(report: ErrorReport) -> None:
    assert "red and solid for verified, orange and dashed for partly verified" in page(report)
    assert "red and solid" not in page(replace(report, regions=()))
