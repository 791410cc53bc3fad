"""Integrated gradients (Sundararajan 2017): completeness, closed forms, and Captum."""

from __future__ import annotations

from pathlib import Path

import cvx_embedded
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from cvx_core import ClassScore, Error, Margin, VisionModel, get_explainer, load_model
from cvx_core.testing import models


class Squares(nn.Module):
    """z_0 = the sum of w x^2 and z_1 = 0: the integral along the path is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        first = (self.weight * x.square()).sum((1, 2, 3))
        return torch.stack([first, 0 * first], 1)


def test_a_quadratic_by_hand() -> None:
    """From x' = 0: x * integral of 2 w t x dt = w x^2 for each pixel.

    The gradient is linear along the path, so any quadrature has it exactly.
    """
    x = torch.tensor([[[[1.0, 2.0], [-1.0, 4.0]]]], dtype=torch.float64)
    [one] = get_explainer("gradient-error", output="path").explain(
        VisionModel(Squares()), x, ClassScore(0)
    )
    np.testing.assert_allclose(one.values, [[1, -8], [3, 8]], rtol=1e-6)
    assert one.evidence["total"] == pytest.approx(4)
    assert one.evidence["residual"] == pytest.approx(0, abs=1e-12)
    assert one.signed


class Smooth(nn.Module):
    """A small network without corners."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.GELU(), nn.Conv2d(6, 6, 3, stride=2), nn.Tanh()
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return 5 * self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def smooth() -> VisionModel:
    torch.manual_seed(0)
    return VisionModel(Smooth().double())


@pytest.fixture
def batch() -> Tensor:
    return models.inputs(2).double()


def test_captum_s_integrated_gradients_is_the_same_where_both_have_converged(
    smooth: VisionModel, batch: Tensor
) -> None:
    """Captum by 100 Gauss-Legendre nodes.

    Its "riemann_trapezoid" can't be the oracle: its weights sum to (n - 1) / n instead of 1
    (Captum 0.9), so it misses the total by a n-th part however smooth the network.
    """
    expected = IntegratedGradients(smooth.module).attribute(
        batch.clone(), target=1, n_steps=100, method="gausslegendre"
    )
    found = get_explainer("gradient-error", output="path", steps=400, tolerance=0).explain(
        smooth, batch, ClassScore(1)
    )
    for one, other in zip(found, expected.detach().sum(1).numpy(), strict=True):
        # a trapezoid of a few hundred steps: their square
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-4 * np.abs(other).max())


def test_the_map_of_the_margin_sums_to_what_the_margin_gained(
    smooth: VisionModel, batch: Tensor
) -> None:
    """S(x) - S(0), for a right answer given as a wrong one; the residual is what is missing."""
    logits, nothing = smooth.logits(batch), smooth.logits(torch.zeros_like(batch))
    answers = logits.argmax(1)
    labels = (answers + 1) % 4
    found = get_explainer("gradient-error", output="path").explain(
        smooth, batch, Margin(), labels.tolist()
    )
    for i, one in enumerate(found):
        q, y = int(answers[i]), int(labels[i])
        total = float((logits[i, q] - logits[i, y]) - (nothing[i, q] - nothing[i, y]))
        assert one.evidence["total"] == pytest.approx(total, rel=1e-9)
        assert one.evidence["residual"] <= 0.01
        gap = abs(total - one.evidence["sum"])
        largest = max(abs(total), abs(one.evidence["sum"]))
        assert one.evidence["residual"] == pytest.approx(gap / largest, abs=1e-6)


def test_the_map_of_the_error_sums_to_what_the_loss_gained(
    smooth: VisionModel, batch: Tensor
) -> None:
    """L(x) - L(0): the seed p - 1_y changes along the path, and is not held at its end's."""
    labels = [int(c) for c in smooth.logits(batch).argmin(1)]
    found = get_explainer("gradient-error", output="path", steps=200, tolerance=0).explain(
        smooth, batch, Error(), labels
    )
    truth = torch.tensor(labels)
    losses = F.cross_entropy(smooth.logits(batch), truth, reduction="none")
    at_start = F.cross_entropy(smooth.logits(torch.zeros_like(batch)), truth, reduction="none")
    for one, total in zip(found, (losses - at_start).tolist(), strict=True):
        assert one.evidence["total"] == pytest.approx(total, rel=1e-9)
        assert one.evidence["sum"] == pytest.approx(total, rel=1e-3)


def test_from_a_blurred_image_the_map_sums_to_what_the_detail_changes(
    smooth: VisionModel, batch: Tensor
) -> None:
    """A flat image is its own blur, so its detail adds exactly nothing."""
    explainer = get_explainer("gradient-error", output="path", baseline="blur")
    [flat] = explainer.explain(smooth, torch.full_like(batch[:1], 0.7), ClassScore(0))
    np.testing.assert_allclose(flat.values, 0, atol=1e-12)
    [one] = explainer.explain(smooth, batch[:1], ClassScore(0))
    assert one.evidence["residual"] <= 0.01
    assert abs(one.evidence["total"]) > 1e-3
    assert one.provenance["baseline"] == "blur"


def test_more_steps_leave_less_over_and_the_evidence_says_how_much_was_spent() -> None:
    """A network of ReLUs, whose gradient jumps along the path."""
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1)
    residuals = []
    for steps in (9, 300):
        explainer = get_explainer("gradient-error", output="path", steps=steps, tolerance=0)
        [one] = explainer.explain(model, batch, ClassScore(1))
        assert one.evidence["path_gradients"] <= steps
        residuals.append(one.evidence["residual"])
    assert residuals[1] < 0.1 * residuals[0]


class Corners(nn.Module):
    """z_0 = relu(a - 1/32) + relu(b - 31/32) of two pixels, and z_1 = 0."""

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(x - torch.tensor([1 / 32, 31 / 32], dtype=x.dtype)).sum((1, 2, 3))
        return torch.stack([first, 0 * first], 1)


def test_errors_that_cancel_are_not_taken_for_none() -> None:
    """At a = b = 1 the maps' values are 31/32 and 1/32, and the total is 1.

    Equal steps of 1/8 give 15/16 and 1/16: the second is twice what it should be, and the sum is 1.
    """
    explainer = get_explainer("gradient-error", output="path", tolerance=1e-3)
    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    [one] = explainer.explain(VisionModel(Corners()), x, ClassScore(0))
    assert one.evidence["total"] == pytest.approx(1)
    # what is left on all intervals together is at most ten times the tolerance
    np.testing.assert_allclose(one.values, [[31 / 32, 1 / 32]], rtol=0, atol=0.01)


def test_on_the_real_network_the_residual_is_told_truly() -> None:
    """Of the margin of a photograph that the network gets wrong, after few steps."""
    model = load_model("embedded")
    photograph = Path(cvx_embedded.__file__).parent / "photos" / "screwDriver3.jpg"
    [one] = get_explainer("gradient-error", output="path", steps=4).explain(
        model, photograph, label="screwdriver"
    )
    [prepared] = model.prepare(photograph)
    logits = model.logits(torch.stack([prepared.tensor, torch.zeros_like(prepared.tensor)]))
    assert one.target.label is not None
    q, y = one.target.predicted.index, one.target.label.index
    margins = (logits[:, q] - logits[:, y]).double()
    total = float(margins[0] - margins[1])
    assert one.evidence["total"] == pytest.approx(total, rel=1e-4)
    gap = abs(total - one.evidence["sum"]) / max(abs(total), abs(one.evidence["sum"]))
    assert one.evidence["residual"] == pytest.approx(gap, abs=1e-4)
    assert one.evidence["path_gradients"] == 4
