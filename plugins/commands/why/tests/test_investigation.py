"""Investigation of networks whose causes are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cvx_why import ErrorReport, why
from cvx_why.report.data import FILES as FILE_NAMES
from cvx_why.search.inpainting import FILLS
from cvx_why.search.regions import _verdict
from cvx_why.search.search import Perturbation
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import OptionError, OutputError, TargetError, UsageError, VisionModel
from cvx_core._util.files import write_atomic
from cvx_core.explanations import output_folder as output

RED = 200.0
PLAIN = 2.0
SQUARE = (slice(20, 32), slice(36, 48))
FALL = RED * 0.7 * 144 / 64**2
"""What the square adds to the margin: 144 of 4096 pixels with a redness of 1 - 0 - 0.3."""


class Blind(nn.Module):
    """Sees nothing of the right half."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.ones_like(x)
        seen[..., x.shape[-1] // 2 :] = 0
        return x * seen


def sees_red(*before: nn.Module) -> VisionModel:
    """Return a network with z_plain = 2 and z_red = 200 times the mean of max(r - g - 0.3, 0)."""
    redness, score = nn.Conv2d(3, 1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        redness.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
        redness.bias.fill_(-0.3)  # type: ignore[union-attr]
        score.weight.copy_(torch.tensor([[0.0], [RED]]))
        score.bias.copy_(torch.tensor([PLAIN, 0.0]))
    layers = (*before, redness, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), score)
    return VisionModel(nn.Sequential(*layers), classes=("plain", "red"), name="sees-red")


def picture(*, square: bool = True) -> Tensor:
    """Return a grey picture (1, 3, 64, 64) with some noise and perhaps a red square."""
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    grey = (0.5 + 0.02 * noise).expand(1, 3, -1, -1).clone()
    if square:
        grey[0, :, SQUARE[0], SQUARE[1]] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return grey


@pytest.fixture(scope="module")
def report() -> ErrorReport:
    return why(sees_red(), picture(), "plain")


def test_the_error_is_named_with_its_margin(report: ErrorReport) -> None:
    assert report.type == "misclassified"
    assert (report.predicted.name, report.true.name) == ("red", "plain")  # type: ignore[union-attr]
    assert report.margin == pytest.approx(FALL - PLAIN, abs=1e-5)
    assert report.target == "why red rather than plain?"


def test_the_square_is_blamed_and_nothing_else(report: ErrorReport) -> None:
    [region] = report.regions
    assert region.verdict == "verified"
    assert report.spread is None
    square = torch.zeros(64, 64, dtype=torch.bool)
    square[SQUARE] = True
    found = torch.tensor(region.mask)
    # It may be larger by a rim of two pixels, and lack the corners.
    assert (found & square).sum() >= 0.9 * square.sum()
    assert found[:18].sum() + found[34:].sum() + found[:, :34].sum() + found[:, 50:].sum() == 0


def test_what_the_removal_measured_is_what_the_square_adds(report: ErrorReport) -> None:
    [region] = report.regions
    # The mean colour has no redness at all. Its rim covers what corners the region leaves.
    assert region.fills["mean"].change == pytest.approx(-FALL, rel=0.02)
    assert all(one.correct for one in region.fills.values())
    assert list(region.fills) == ["inpaint", "blur", "mean"]


def test_the_map_of_blame_peaks_in_the_square_and_sums_to_the_fall(report: ErrorReport) -> None:
    blame = torch.tensor(report.blame.values)
    row, column = divmod(int(blame.argmax()), 64)
    assert row in range(20, 32)
    assert column in range(36, 48)
    [region] = report.regions
    middle = sorted(one.change for one in region.fills.values())[1]
    assert blame.sum() == pytest.approx(-middle, rel=1e-4)


def test_the_fix_makes_the_answer_right_when_it_is_run_by_anybody(report: ErrorReport) -> None:
    assert report.fix is not None
    logits = sees_red().module(torch.from_numpy(report.fix.inputs)[None])
    assert logits.argmax() == 0
    # The margin is 60 % of what the square adds, so that no smaller part of it would do.
    assert 0.5 * 144 / 64**2 < report.fix.share < 1.5 * 144 / 64**2


def test_the_images_that_went_through_the_network_are_counted() -> None:
    model, seen = sees_red(), [0]

    def count(_module: Any, args: tuple[Any, ...]) -> None:
        seen[0] += len(args[0])

    model.module.register_forward_pre_hook(count)
    found = why(model, picture(), "plain")
    assert seen[0] == found.passes <= found.budget == 60
    # Nine images show what kind of network it is, once.
    known = why(model, picture(), "plain")
    assert known.passes == found.passes - 9 <= 18
    assert why(model, picture(), "plain", budget=40).passes <= 40
    assert known.passes < why(model, picture(), "plain", budget=100).passes <= 100


def test_a_right_answer_has_nothing_to_blame() -> None:
    found = why(sees_red(), picture(square=False), "plain")
    assert (found.type, found.regions, found.fix) == ("correct", (), None)
    assert not found.blame.values.any()
    assert "correct" in found.text


def test_a_network_that_does_not_see_the_square_does_not_blame_it() -> None:
    found = why(sees_red(Blind()), picture(), "plain", rival="red")
    assert found.margin == pytest.approx(-PLAIN, abs=1e-5)
    assert found.regions == ()
    assert not (found.blame.values > 0).any()


def test_a_rival_is_asked_about_though_it_did_not_come_first() -> None:
    weak = picture()
    weak[0, 0, SQUARE[0], SQUARE[1]] = 0.5
    found = why(sees_red(), weak, "plain", rival="red")
    assert found.margin < 0
    [region] = found.regions
    # A redness of 0.2 in place of 0.7.
    assert region.fills["mean"].change == pytest.approx(-FALL * 0.2 / 0.7, rel=0.05)
    assert found.fix is None


def test_where_the_true_class_leads_a_weak_pull_to_the_rival_is_no_cause() -> None:
    # The square pulls by 2 towards a margin of -5: less than half of what is missing.
    pull, lead = 2.0, 5.0
    weak = picture()
    weak[0, 0, SQUARE[0], SQUARE[1]] = 0.3 + pull * 64**2 / (144 * RED)
    model = sees_red()
    with torch.no_grad():
        model.module[-1].bias[0] = lead + pull  # type: ignore[index, union-attr]
    found = why(model, weak, "plain", rival="red")
    assert found.margin == pytest.approx(-lead, abs=0.01)
    assert found.blamed == ()
    assert not (found.blame.values > 0).any()


def test_a_tint_that_fades_into_its_surroundings_is_blamed() -> None:
    # A square cut out of it would have a red rim, which inpainting takes up.
    tinted = picture(square=False)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((y - 26) ** 2 + (x - 42) ** 2).sqrt()
    red = (1 - distance / 20).clamp(0, 1)
    tinted = tinted * (1 - red) + red * torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    found = why(sees_red(), tinted, "plain")
    [region] = found.regions
    assert region.verdict == "verified"
    # Redness of 0.3 and less is not seen: 0.3 = 1 - distance / 20 at 14 pixels.
    assert not region.mask[(distance > 18).numpy()].any()
    assert region.mask[(distance < 8).numpy()].all()


def test_the_model_is_left_as_found() -> None:
    model = sees_red().module.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    why(VisionModel(model, classes=("plain", "red")), picture(), "plain")
    assert model.training
    assert not model._forward_pre_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_reference_shows_what_would_have_to_be_added() -> None:
    found = why(sees_red(), picture(), "plain", reference_image=picture(square=False))
    [region] = found.regions
    assert region.fills["reference"].change == pytest.approx(-FALL, rel=0.02)
    assert found.counterfactual is not None
    # One cell of the square for a grey one: 0.7 of redness less, on the mean of 4096, by hand.
    assert found.counterfactual["changes"]["1"] == pytest.approx(-RED * 0.7 / 64**2, rel=1e-4)
    # 86 of its 144 cells hold the margin, and 128 is the next number that is tried.
    assert len(found.counterfactual["positions"]) == 128
    places = [one["position"] for one in found.counterfactual["positions"]]
    assert all(row in range(20, 32) and column in range(36, 48) for row, column in places)


def test_the_layer_profile_is_added_on_request() -> None:
    found = why(sees_red(), picture(), "plain", profile=True)
    rows = {row["layer"]: row for row in found.profile}
    # Behind the ReLU the cells carry all that is red, and the bias the rest.
    assert rows["1"]["cells"] == pytest.approx(FALL, rel=1e-4)
    assert rows["1"]["constant_part"] == pytest.approx(-PLAIN, rel=1e-4)


def test_the_report_is_written_and_not_over_another(report: ErrorReport, tmp_path: Path) -> None:
    files = report.save(tmp_path / "out")
    assert [file.name for file in files] == list(FILE_NAMES)
    document = json.loads((tmp_path / "out/why.json").read_text())
    assert document == json.loads(json.dumps(report.to_dict()))
    assert document["schema"] == "cvx.why/3"
    assert document["regions"][0]["verdict"] == "verified"
    with pytest.raises(UsageError, match="already exists"):
        report.save(tmp_path / "out")
    report.save(tmp_path / "out", overwrite=True)


def test_an_unknown_class_is_refused_before_the_picture_is_looked_at() -> None:
    for label, rival in [("blue", None), ("plain", "blue")]:
        with pytest.raises(TargetError, match="no class 'blue'"):
            why(sees_red(), "nowhere.jpg", label, rival=rival)


@pytest.mark.parametrize("full_at", FILE_NAMES)
def test_a_full_disk_leaves_nothing_that_would_be_in_the_way(
    report: ErrorReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    def until_full(path: Path, data: bytes, *, overwrite: bool) -> Path:
        if path.name == full_at:
            raise OutputError("No space left on device.")
        return write_atomic(path, data, overwrite=overwrite)

    monkeypatch.setattr(output, "write_atomic", until_full)
    with pytest.raises(OutputError, match="No space"):
        report.save(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert report.save(tmp_path)[0].name == "index.html"


def test_the_page_is_written_after_all_that_it_shows(
    report: ErrorReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: dict[str, list[str]] = {}

    def noting(path: Path, data: bytes, *, overwrite: bool) -> Path:
        there[path.name] = sorted(one.name for one in tmp_path.iterdir())
        return write_atomic(path, data, overwrite=overwrite)

    monkeypatch.setattr(output, "write_atomic", noting)
    report.save(tmp_path)
    assert there["index.html"] == sorted({*FILE_NAMES} - {"index.html"})


def test_it_is_a_function_of_cvx_core_too() -> None:
    assert cvx.why is why


def test_what_can_t_be_answered_is_refused_with_the_way_out() -> None:
    model = sees_red()
    for wrong in (10, 100_001, 50.0, True):
        with pytest.raises(OptionError, match=r"budget must be an integer, 40 to 100000"):
            why(model, picture(), "plain", budget=wrong)  # type: ignore[arg-type]
    for wrong in (-5, 0, 1e9):
        with pytest.raises(OptionError, match=r"memory must be an integer, 1 or more"):
            why(model, picture(), "plain", memory=wrong)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="no class 'blue'"):
        why(model, picture(), "blue")
    with pytest.raises(TargetError, match="error must be 0 to 0"):
        why(model, picture(), "plain", error=1)
    with pytest.raises(TargetError, match="The prediction is correct; omit error"):
        why(model, picture(square=False), "plain", error=1)
    with pytest.raises(UsageError, match="one at a time"):
        why(model, picture().expand(2, -1, -1, -1), "plain")
    with pytest.raises(UsageError, match="different shapes"):
        why(model, picture(), "plain", reference_image=torch.zeros(1, 3, 32, 32))


class Texture(nn.Module):
    """Says textured by the mean difference of neighbouring pixels, wherever they are."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x.mean(1)
        rough = (grey[:, 1:] - grey[:, :-1]).abs().mean((1, 2))
        return torch.stack([torch.ones_like(rough), 15 * rough], 1)


@pytest.mark.parametrize("budget", [40, 50, 80])
def test_an_error_that_comes_from_everywhere_is_blamed_on_no_place(budget: int) -> None:
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = why(
        VisionModel(Texture(), classes=("plain", "textured")), noise, "plain", budget=budget
    )
    assert found.margin > 1
    assert found.blamed == ()
    assert float(found.blame.values.max()) <= 0
    # Half of the margin of 1.88 is a third of what all of the image adds.
    assert found.spread == pytest.approx(1 / 3, abs=0.1)
    assert f"filling {100 * found.spread:.0f} % of the pixels halves the margin" in found.text


def test_a_verdict_needs_all_fills_and_blame_two() -> None:
    gone = Perturbation(torch.ones(2, 2, dtype=torch.bool), -3.0, right=True)
    assert _verdict([gone] * 3, 4.0, 3) == "verified"
    assert _verdict([gone] * 2, 4.0, 3) == "partly"
    assert _verdict([gone], 4.0, 3) == "not verified"


def test_every_region_in_a_report_was_removed_by_every_fill(report: ErrorReport) -> None:
    assert report.regions
    assert all(set(one.fills) == set(FILLS) for one in report.regions)


def test_a_report_does_not_depend_on_whether_the_network_is_known_already() -> None:
    model = sees_red()
    first, second = (why(model, picture(), "plain", budget=40) for _ in range(2))
    assert first.passes > second.passes
    assert [one.to_dict() for one in first.regions] == [one.to_dict() for one in second.regions]
    np.testing.assert_array_equal(first.blame.values, second.blame.values)


def test_blame_needs_more_than_half_of_the_fills() -> None:
    mask = torch.ones(2, 2, dtype=torch.bool)
    much, little = Perturbation(mask, -3.0, right=False), Perturbation(mask, -0.1, right=False)
    assert _verdict([much, much, little], 4.0, 3) == "partly"
    assert _verdict([much, little, little], 4.0, 3) == "not verified"
    assert _verdict([much, much, little, little], 4.0, 4) == "not verified"


def test_the_loss_of_values_is_not_in_nats() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval()
    model = VisionModel(net, task="depth:unit=m")
    found = why(model, picture(), label=np.full((64, 64), 9.0), budget=40)
    first = found.text.splitlines()[0]
    assert re.fullmatch(r".+; margin \d+\.\d\d, loss \d+\.\d\d", first)
