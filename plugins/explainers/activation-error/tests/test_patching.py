"""Activation patching: by hand, against runs of the whole network, and on an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_embedded import photographs
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Contrast,
    Margin,
    OptionError,
    VisionModel,
    get_explainer,
    load_model,
)
from cvx_core.images.baselines import make_baseline
from cvx_core.testing import models


class Linear(nn.Module):
    """h = 2 x + 1 by cell, z_0 = h_1 - 3 h_2 + 5 h_3, z_1 = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 1, 1), nn.Linear(3, 2)
        nn.init.constant_(self.first.weight, 2.0)
        nn.init.constant_(self.first.bias, 1.0)
        self.head.weight = nn.Parameter(torch.tensor([[1.0, -3.0, 5.0], [0.0, 0.0, 0.0]]))
        nn.init.constant_(self.head.bias, 7.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).flatten(1))


X = torch.tensor([1.0, 2.0, -1.0]).reshape(1, 1, 1, 3)


@pytest.mark.parametrize("layer", ["first", "input"])
def test_in_a_linear_network_the_effect_is_the_estimate(layer: str) -> None:
    """From zero (h = 1): 2 x times (1, -3, 5) = (2, -12, -10), in all -20 = 7 + 3 - 15 - 5 - 10."""
    [one] = get_explainer("activation-patching", layer=layer).explain(
        VisionModel(Linear()), X, ClassScore(0)
    )
    np.testing.assert_array_equal(one.values, [[2, -12, -10]])
    assert one.evidence["total"] == one.evidence["sum"] == one.evidence["patched_together"] == -20
    assert one.evidence["pearson_r"] == pytest.approx(1, abs=1e-12)
    assert one.evidence["pearson_r_native"] == pytest.approx(1, abs=1e-12)
    assert one.evidence["reruns"] == 3


def test_from_the_mean_by_hand() -> None:
    """The mean of (1, 2, -1) is 2/3: 2 (1/3, 4/3, -5/3) times (1, -3, 5) = (2/3, -8, -50/3)."""
    [one] = get_explainer("activation-patching", layer="first", baseline="mean").explain(
        VisionModel(Linear()), X, ClassScore(0)
    )
    np.testing.assert_allclose(one.values, [[2 / 3, -8, -50 / 3]], rtol=1e-5)


class Product(nn.Module):
    """z_0 = h_1 h_2 + relu(h_3), h = x: the cells' effects don't add up."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.first.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).flatten(1)
        z = h[:, 0] * h[:, 1] + torch.relu(h[:, 2])
        return torch.stack([z, 0 * z], 1)


def test_what_two_cells_do_together_is_told_beside_what_each_does() -> None:
    """x = (2, 3, 4): without h_1 or h_2 6 are lost, without h_3 4; together 10, not 16.

    The native gradient (3, 2, 1) gives (6, 6, 4), r = 1. Half of a product to each factor, as when
    gates are held, gives (3, 3, 4): the order turns, and r = -1, as over any two distinct values.
    """
    x = torch.tensor([2.0, 3.0, 4.0]).reshape(1, 1, 1, 3)
    [one] = get_explainer("activation-patching", layer="first").explain(
        VisionModel(Product()), x, ClassScore(0)
    )
    np.testing.assert_array_equal(one.values, [[6, 6, 4]])
    assert (one.evidence["sum"], one.evidence["patched_together"], one.evidence["total"]) == (
        16, 10, 10,
    )  # fmt: skip
    assert one.evidence["pearson_r_native"] == pytest.approx(1, abs=1e-9)
    assert one.evidence["pearson_r"] == pytest.approx(-1, abs=1e-9)


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_a_cell_is_what_the_whole_network_loses_with_that_cell_exchanged(
    build: type[VisionModel], baseline: str
) -> None:
    """Against a hook of the test's own, on maps and on tokens."""
    model, batch = build().to(dtype=torch.float64), models.inputs(2).double()
    name = "third" if build is models.convolutional else "blocks.0"
    explainer = get_explainer("activation-patching", layer=name, baseline=baseline)
    seen: list[Tensor] = []
    layer = model.module.get_submodule(name)
    handle = layer.register_forward_hook(lambda m, a, out: seen.append(out.clone()))
    plain = model.logits(batch)
    other = model.logits(make_baseline(baseline, batch))
    handle.remove()
    found = explainer.explain(model, batch, Contrast(0, 1))
    for row, column in ((0, 0), (1, 3), (3, 2)):

        def exchange(m: nn.Module, a: object, out: Tensor) -> Tensor:
            out = out.clone()
            if name == "third":
                out[:, :, row, column] = seen[1][:, :, row, column]  # noqa: B023
            else:
                cell = 1 + 4 * row + column  # noqa: B023
                out[:, cell] = seen[1][:, cell]
            return out

        handle = layer.register_forward_hook(exchange)
        patched = model.logits(batch)
        handle.remove()
        for i, one in enumerate(found):
            lost = (plain - patched)[i]
            # the map is float32
            assert one.values[row, column] == pytest.approx(float(lost[0] - lost[1]), rel=1e-5)
            total = (plain - other)[i]
            assert one.evidence["total"] == pytest.approx(float(total[0] - total[1]), rel=1e-9)


class Left(nn.Module):
    """A network whose answer never reads the right half of its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 3, 1), models.convolutional().module

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.first(x)[..., :16].repeat(1, 1, 1, 2))


def test_what_the_answer_does_not_read_has_no_effect() -> None:
    torch.manual_seed(0)
    model = VisionModel(Left().double().eval())
    batch = torch.nn.functional.interpolate(models.inputs(1), (8, 8)).double()
    batch = torch.nn.functional.pad(batch, (0, 24, 0, 24))[..., :32, :32]
    [one] = get_explainer("activation-patching", layer="inner.second").explain(
        model, models.inputs(1).double(), ClassScore(0)
    )
    assert np.abs(one.values).min() > 0
    [first] = get_explainer("activation-patching", layer="first", baseline="blur").explain(
        model, models.inputs(1).double(), ClassScore(0)
    )
    scale = np.abs(first.values[:, :16]).max()
    # Rows of another batch size may be rounded differently.
    assert np.abs(first.values[:, 16:]).max() <= 1e-12 * scale


def test_on_a_photograph_the_estimate_is_exact_at_the_last_layer_and_not_before() -> None:
    """Behind it is a mean and a linear layer; behind stage 5 the gates change with the cell."""
    model, tool = load_model("embedded"), photographs()[1].path
    last, inside = (
        get_explainer("activation-patching", layer=layer).explain(
            model, tool, Margin(), "screwdriver"
        )[0]
        for layer in ("auto", "blocks.5")
    )
    assert last.evidence["pearson_r"] > 0.9999
    assert last.evidence["sum"] == pytest.approx(last.evidence["total"], abs=1e-3)
    assert 0.3 < inside.evidence["pearson_r"] < 0.99
    for one in (last, inside):
        # Everything passes these layers, so that all cells together are the baseline's answer.
        assert one.evidence["patched_together"] == pytest.approx(one.evidence["total"], abs=1e-3)


def test_another_photograph_is_a_reference_too(tmp_path: Path) -> None:
    """With itself as the baseline nothing changes, and there is no correlation."""
    model, (fish, tool) = load_model("embedded"), photographs()
    same, other = (
        get_explainer("activation-patching", baseline=str(path)).explain(
            model, tool.path, ClassScore("hammer")
        )[0]
        for path in (tool.path, fish.path)
    )
    assert np.abs(same.values).max() < 1e-4
    assert abs(same.evidence["total"]) < 1e-4
    assert np.abs(other.values).max() > 1e-2
    z = model.logits(torch.stack([p.tensor for p in model.prepare([tool.path, fish.path])]))
    hammer = model.classes.index("hammer")  # type: ignore[union-attr]
    assert other.evidence["total"] == pytest.approx(float(z[0, hammer] - z[1, hammer]), abs=1e-4)
    assert other.provenance["baseline"] == str(fish.path)


@pytest.mark.parametrize(("baseline", "way_out"), [("blurr", "'blur'"), ("missing.jpg", "path")])
def test_an_unknown_baseline_is_refused(baseline: str, way_out: str) -> None:
    with pytest.raises(OptionError, match="or an image file, got") as caught:
        get_explainer("activation-patching", baseline=baseline)
    assert way_out in caught.value.hint
