"""Curves whose steps are run only where they could change the area."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_score import deletion, insertion, score
from cvx_score.measures.early_stop import first_steps, further_steps, interpolate
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from cvx_core import OptionError, VisionModel


class Falling(nn.Module):
    """Two logits, 0 and 20 times the share of the picture that is left, less 10."""

    def forward(self, x: Tensor) -> Tensor:
        left = 20 * x.mean(dim=(1, 2, 3)) - 10
        return torch.stack([torch.zeros_like(left), left], dim=1)


IMAGE = torch.ones(1, 1, 40, 40)
MAP = torch.arange(1600.0).view(40, 40)


def area(values: np.ndarray) -> float:
    return float(np.trapezoid(values, dx=1 / (len(values) - 1)))


@given(
    falls=st.lists(st.floats(0, 1), min_size=3, max_size=120),
    within=st.sampled_from([0.1, 0.01, 0.001]),
)
@settings(max_examples=200, deadline=None)
def test_the_area_of_a_curve_that_only_falls_is_known_within_what_was_asked(
    falls: list[float], within: float
) -> None:
    curve = np.sort(np.array(falls))[::-1]
    known, measured = np.zeros(len(curve)), np.zeros(len(curve), dtype=bool)
    ahead = first_steps(len(curve))
    while ahead:
        assert not measured[ahead].any()
        known[ahead], measured[ahead] = curve[ahead], True
        ahead = further_steps(known, measured, within)
    # What is compared is a sum of 120 float64 products.
    assert abs(area(interpolate(known, measured)) - area(curve)) <= within + 1e-12


def test_where_the_curve_is_level_no_more_steps_are_run() -> None:
    # From 1 to 0 between the shares 0.25 and 0.5; the first steps are 0, 8, 16 ... 96.
    curve = np.interp(np.arange(97), [24, 48], [1, 0])
    known, measured = np.zeros(97), np.zeros(97, dtype=bool)
    known[::8], measured[::8] = curve[::8], True
    # Each of the three intervals between 24 and 48 may hide (1/3) x (8/96) / 2 = 0.0139.
    assert further_steps(known, measured, 0.05) == []
    assert len(further_steps(known, measured, 0.04)) == 1
    assert further_steps(known, measured, 0.001) == [28, 36, 44]


def test_deletion_needs_fewer_passes_for_the_same_area() -> None:
    model = VisionModel(Falling(), classes=["none", "some"])
    every = deletion(model, IMAGE, MAP, "some", steps=64, within=0)
    spared = deletion(model, IMAGE, MAP, "some", steps=64, within=0.01)
    assert every.passes == 1 + 65
    assert every.measured.all()
    assert spared.passes == 1 + spared.measured.sum() < 35
    assert spared.scores == pytest.approx(every.scores, abs=0.01)
    run = spared.measured[0]
    assert spared.values[0][run].tolist() == every.values[0][run].tolist()
    assert every.accuracy is not None
    assert spared.accuracy is None


def test_logits_are_known_within_a_share_of_their_height() -> None:
    model = VisionModel(Falling(), classes=["none", "some"])
    # A straight line from -10 to 10: within 0.02 x 20, and the first steps alone leave
    # (20 / 8) x (1 / 8) / 2 for each of the 8 intervals, 1.25 together.
    found = insertion(model, IMAGE, MAP, 1, steps=64, within=0.02, quantity="logit",
                      baseline="zero")  # fmt: skip
    assert found.scores[0] == pytest.approx(0, abs=0.4)
    assert 9 < found.measured.sum() < 65


def test_two_images_are_spared_each_by_its_own_curve() -> None:
    model = VisionModel(Falling(), classes=["none", "some"])
    dark = torch.zeros(1, 1, 40, 40)
    both = deletion(model, torch.cat([IMAGE, dark]), [MAP, MAP], "some", steps=64)
    alone = deletion(model, IMAGE, MAP, "some", steps=64)
    assert both.measured[0].tolist() == alone.measured[0].tolist()
    # Nothing changes where there was nothing: 9 steps, and the image itself.
    assert both.measured[1].sum() == len(first_steps(65)) == 9
    assert both.passes == alone.passes + 10


def test_a_network_that_answers_nan_ends_all_the_same() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            answer = x.mean(dim=(2, 3))
            return torch.where(answer < 0.9, float("nan"), answer)

    model = VisionModel(Broken(), classes=["a", "b", "c"])
    found = deletion(model, torch.ones(1, 3, 40, 40), MAP, "a", steps=32)
    assert np.isnan(found.scores).all()


def test_score_says_which_steps_were_run() -> None:
    model = VisionModel(Falling(), classes=["none", "some"])
    [one] = score(model, IMAGE, {"mine": [MAP.numpy()]}, "some", measures=["deletion"], steps=64)
    [run] = one.details["measured"]
    assert one.details["within"] == 0.01
    assert len(run) + 1 == one.passes < 65
    assert len(one.curves[0]) == 65


def test_no_area_is_within_less_than_nothing() -> None:
    model = VisionModel(Falling(), classes=["none", "some"])
    for bad in (-0.1, float("nan")):
        with pytest.raises(OptionError, match="within"):
            deletion(model, IMAGE, MAP, "some", within=bad)
