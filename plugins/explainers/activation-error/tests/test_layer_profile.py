"""The layer profile: by hand, against single layers, and on an image."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from cvx_activation_error.layer_profile import layer_profile
from cvx_activation_error.profile import MOST_LAYERS, LayerProfile, by_stage
from cvx_embedded import photographs
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Contrast,
    LayerError,
    Margin,
    OptionError,
    VisionModel,
    get_explainer,
    load_model,
)
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.testing import models


class Two(nn.Module):
    """h = 2 x + 1, z = (sum of relu(h) + 3, 2 h_1)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.head = nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Linear(2, 2)
        nn.init.constant_(self.first.weight, 2.0)
        nn.init.constant_(self.first.bias, 1.0)
        self.head.weight = nn.Parameter(torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
        self.head.bias = nn.Parameter(torch.tensor([3.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.first(x)).flatten(1))


def test_the_profile_by_hand() -> None:
    """x = (1, 2): h = (3, 5), z = (11, 6); why 0 and not 1: 5 = (3 + 5 - 6) + 3 from h on.

    From x on, with both gates open: dS/dx = 2 (1 - 2, 1) = (-2, 2), cells -2 + 4 = 2, of class 0
    2 + 4 = 6 and of class 1 4; the bias 1 adds -1 + 1 = 0 to the constant 3.
    """
    x = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    profile = layer_profile(VisionModel(Two()), x, Margin(1), layers=["input", "relu"])
    pixels, cells = profile.rows
    assert (pixels.layer, pixels.grid, cells.layer, cells.grid) == ("input", (1, 2), "relu", (1, 2))
    for row in profile.rows:
        assert (row.total, row.cells, row.other_tokens, row.constant_part) == (5, 2, 0, 3)
        assert row.non_pixel_share == pytest.approx(3 / 5)
    assert (pixels.cells_for, pixels.cells_against) == (6, 4)
    assert (cells.cells_for, cells.cells_against) == (8, 6)
    assert profile.residual == 0
    assert profile.target == "why 0 and not 1?"


@pytest.fixture(scope="module")
def embedded() -> VisionModel:
    return load_model("embedded")


def test_a_row_is_what_the_layer_s_own_map_says(embedded: VisionModel) -> None:
    """The same sums as from explanations of single layers, whose constants are measured."""
    tool = photographs()[1].path
    profile = layer_profile(embedded, tool, label="screwdriver")
    assert profile.target == "why power drill and not screwdriver?"
    assert 5 < len(profile.rows) <= MOST_LAYERS
    assert profile.residual is not None
    assert profile.residual < 1e-4
    for row in profile.rows[::3]:
        explainer = get_explainer("activation-error", layer=row.layer, rule="frozen")
        one, drill, driver = explainer.explain(
            embedded, tool, [[Margin(), ClassScore("power drill"), ClassScore("screwdriver")]],
            "screwdriver",
        )  # fmt: skip
        # float32: constants of some 10 logits, of which rounding takes 1e-4 at most
        assert row.total == pytest.approx(one.evidence["total"], abs=1e-4)
        assert row.cells == pytest.approx(one.evidence["sum"], abs=1e-3)
        assert row.constant_part == pytest.approx(one.evidence["constant_part"], abs=1e-3)
        assert row.cells_for == pytest.approx(drill.evidence["sum"], abs=1e-3)
        assert row.cells_against == pytest.approx(driver.evidence["sum"], abs=1e-3)
        assert row.non_pixel_share == pytest.approx(one.evidence["non_pixel_share"], abs=1e-3)


def test_one_forward_and_one_backward_pass_serve_all_layers(embedded: VisionModel) -> None:
    """One of each, and a replay, more than the map alone; for two classes one more backward."""
    tool = photographs()[1].path
    for target, more in ((ClassScore("hammer"), 1), (Contrast("hammer", "power drill"), 2)):
        counts = [
            get_explainer("activation-error", profile=profile)
            .explain(embedded, tool, target)[0]
            .evidence
            for profile in (False, True)
        ]
        plain, profiled = ((one["forwards"], one["backwards"]) for one in counts)
        assert (profiled[0] - plain[0], profiled[1] - plain[1]) == (2, more)


def test_the_class_token_has_a_column_of_its_own() -> None:
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=4).eval()
    image = torch.randn(1, 3, 64, 64)
    profile = layer_profile(VisionModel(net), image, Contrast(0, 1))
    by_name = {row.layer: row for row in profile.rows}
    assert by_name["input"].other_tokens == 0
    assert abs(by_name["blocks.1"].other_tokens) > 1e-6
    last = profile.rows[-1]
    assert last.cells == 0, "the head reads nothing but the class token"
    for row in profile.rows:
        parts = row.cells + row.other_tokens + row.constant_part
        assert parts == pytest.approx(row.total, abs=1e-9)


def test_every_image_and_question_of_a_batch_has_its_own_rows() -> None:
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(2)
    name, read = parse_parameters("activation-error:profile=[first,third]")
    explainer = get_explainer(name, **read)
    targets = [[Contrast(0, 1), ClassScore(2)], [ClassScore(3)]]
    found = explainer.explain(model, batch, targets)
    assert len(found) == 3
    for i, one in zip((0, 0, 1), found, strict=True):
        rows = one.evidence["layer_profile"]
        assert [row["layer"] for row in rows] == ["first", "third"]
        request = [Contrast(0, 1), ClassScore(2), ClassScore(3)][found.index(one)]
        [alone] = explainer.explain(model, batch[i : i + 1], request)
        for row, other in zip(rows, alone.evidence["layer_profile"], strict=True):
            assert row["total"] == pytest.approx(one.target.score)
            assert row["cells"] == pytest.approx(other["cells"])
    assert found[0].evidence["layer_profile"][0]["cells_for"] is not None


def test_the_chosen_layers_are_by_stage_at_most_a_dozen(embedded: VisionModel) -> None:
    """Pixels first, all five sizes of grid, in the order of the forward pass, on the trunk."""
    inputs = torch.zeros(1, 3, 224, 224)
    inputs += torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0))
    places = by_stage(embedded, inputs)
    sizes = [place.grid[0] for place in places]
    assert places[0].kind == "input"
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {224, 112, 56, 28, 14, 7}
    assert len(places) <= MOST_LAYERS


def test_the_profile_as_json_values() -> None:
    x = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    profile = layer_profile(VisionModel(Two()), x, ClassScore(0), layers=["relu"])
    assert profile.to_dict() == {
        "target": "what supports 0?",
        "residual": 0.0,
        "rows": [
            {
                "layer": "relu", "grid": [1, 2], "total": 11.0, "cells": 8.0, "other_tokens": 0.0,
                "constant_part": 3.0, "non_pixel_share": pytest.approx(3 / 11),
                "cells_for": None, "cells_against": None,
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["relu", 3, ["relu", 1]])
def test_a_profile_of_what_is_no_layer_s_name_is_refused(profile: Any) -> None:
    with pytest.raises(OptionError, match="profile must be true, false or names of layers"):
        get_explainer("activation-error", profile=profile)


def test_several_images_have_no_profile_in_common() -> None:
    with pytest.raises(OptionError, match="got 2"):
        layer_profile(models.convolutional(), models.inputs(2), ClassScore(0))


def test_a_layer_without_a_grid_is_refused() -> None:
    with pytest.raises(LayerError, match="not a grid of positions"):
        layer_profile(models.convolutional(), models.inputs(1), ClassScore(0), layers=["head"])


def test_a_map_without_a_profile_has_none() -> None:
    [one] = get_explainer("activation-error", rule="frozen").explain(
        models.convolutional(), models.inputs(1), ClassScore(0)
    )
    with pytest.raises(OptionError, match="profile=True"):
        LayerProfile.of(one)
