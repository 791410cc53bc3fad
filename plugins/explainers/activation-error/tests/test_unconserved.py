"""Where a map misses its total the evidence says in which module, and how much; else nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from cvx_activation_error.conservation_report import rounding
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, Explanation, Margin, VisionModel, get_explainer
from cvx_core.testing import models

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 4, 3, padding=1), Function(function)
        self.last, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.last(self.middle(self.stem(x)))).mean((2, 3)))


def of(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float64, **options: Any
) -> list[Explanation]:
    torch.manual_seed(0)
    model = VisionModel(Net(function).eval()).to(dtype=dtype)
    explainer = get_explainer("activation-error", **{"layer": "input", "rule": "frozen", **options})
    return explainer.explain(model, IMAGES.to(dtype), Contrast(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operation_without_a_rule_is_named_with_what_it_loses(dtype: torch.dtype) -> None:
    """A running product is neither piecewise linear nor gated. What is lost is the whole gap."""
    for one in of(lambda x: torch.cumprod(4 * x, 2), dtype):
        evidence = one.evidence
        [lost] = evidence["unconserved"]
        assert lost["module"] == "middle"
        parts = evidence["sum"] + evidence["other_tokens"] + evidence["constant_part"]
        # In float32 the gap is the small difference of large parts.
        assert lost["missing"] == pytest.approx(evidence["total"] - parts, rel=1e-3)
        assert evidence["residual"] > 1e-4


def test_one_inside_the_network_s_own_forward_is_put_down_to_the_network() -> None:
    class Own(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cumprod(4 * self.stem(x), 2).mean((2, 3)))

    torch.manual_seed(0)
    model = VisionModel(Own(torch.relu).double().eval())
    [one] = get_explainer("activation-error", layer="input", rule="frozen").explain(
        model, IMAGES[:1].double(), ClassScore(0)
    )
    assert [row["module"] for row in one.evidence["unconserved"]] == ["Own, outside its modules"]


def test_behind_the_operation_nothing_is_reported() -> None:
    assert all(
        "unconserved" not in one.evidence
        for one in of(lambda x: torch.cumprod(4 * x, 2), layer="last")
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [torch.sin, torch.relu, nn.functional.gelu, torch.tanh])
def test_where_all_is_conserved_nothing_is_reported_and_nothing_more_is_run(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    """A sine is gated: x times sin(x) / x, held. One forward pass and one replay."""
    for one in of(function, dtype):
        assert "unconserved" not in one.evidence
        assert (one.evidence["forwards"], one.evidence["backwards"]) == (2, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_evidence_says_that_a_loss_can_t_be_told(dtype: torch.dtype) -> None:
    """Of 2.5 per cent, and of nothing: both are below 32 epsilon."""
    for function in (lambda x: x + 0.025 * torch.cumprod(x, 2), torch.relu):
        for one in of(function, dtype):
            assert one.evidence["unconserved"] is None
            assert "ask in float32" in one.evidence["unconserved_reason"]
        for one in of(function, torch.float32):
            assert "unconserved_reason" not in one.evidence


@pytest.mark.parametrize("layer", ["auto", "input"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"depth": 3, "img_size": 64}),
        ("convnext_atto", {"depths": (1, 1, 2, 1)}),
        ("resnet10t", {}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_on_real_architectures_nothing_is_reported(
    name: str, options: dict[str, Any], dtype: torch.dtype, layer: str
) -> None:
    torch.manual_seed(0)
    model = VisionModel(timm.create_model(name, num_classes=6, **options).eval()).to(dtype=dtype)
    batch = torch.randn(2, 3, 64, 64).to(dtype)
    for one in get_explainer("activation-error", layer=layer, rule="frozen").explain(
        model, batch, Contrast(0, 1)
    ):
        assert "unconserved" not in one.evidence


def test_without_verification_nothing_is_known_of_it() -> None:
    [one, _] = of(lambda x: torch.cumprod(4 * x, 2), verify=False)
    assert not {"residual", "unconserved"} & set(one.evidence)


def test_an_image_without_an_error_of_its_own_misses_nothing() -> None:
    """Margins of one batch: the right answer's is zero, and loses zero."""
    torch.manual_seed(0)
    model = VisionModel(Net(lambda x: torch.cumprod(4 * x, 2)).double().eval())
    images = IMAGES.double()
    right = int(model.logits(images)[0].argmax())
    wrong = int(model.logits(images)[1].argmin())
    explainer = get_explainer("activation-error", layer="input", rule="frozen")
    one, other = explainer.explain(model, images, Margin(), [right, wrong])
    assert [row["missing"] for row in one.evidence["unconserved"]] == [0]
    [alone] = explainer.explain(model, images[1:], Margin(), wrong)
    assert np.allclose(
        other.evidence["unconserved"][0]["missing"], alone.evidence["unconserved"][0]["missing"]
    )


def test_what_rounding_may_leave() -> None:
    """32 epsilon of the magnitudes: (3 + 4) + (5 + 0), in the coarser dtype."""
    one = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    other = torch.tensor([[5.0, 0.0]], dtype=torch.float32)
    assert float(rounding(one, other)) == pytest.approx(32 * 2**-23 * 12)
    assert float(rounding(one)) == pytest.approx(32 * 2**-52 * 7)


def test_the_testing_networks_conserve() -> None:
    for model in (models.convolutional(), models.tokens()):
        for one in get_explainer("activation-error", rule="frozen").explain(
            model, models.inputs(), ClassScore(1)
        ):
            assert "unconserved" not in one.evidence
