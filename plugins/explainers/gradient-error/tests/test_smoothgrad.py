"""SmoothGrad (Smilkov 2017) against loops, hand computation and Captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from torch import Tensor, nn

from cvx_core import ClassScore, OptionError, Predicted, VisionModel, explain, get_explainer
from cvx_core.testing import models


class Square(nn.Module):
    """z = (sum of x^2, 0): its gradient is 2 x."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        z = (self.one * x.square()).sum((1, 2, 3))
        return torch.stack([z, 0 * z], 1)


X = torch.tensor([[[[3.0, 1.0], [-1.0, 2.0]]]], dtype=torch.float64)


def test_the_mean_gradient_of_a_square_is_that_of_the_mean_copy() -> None:
    """2 (x + sigma * 4 * noise): its mean over many copies is 2 x, its deviation 8 sigma.

    With sigma = 1/8 the deviation is 1, so that 2500 copies have a standard error of 0.02; the
    map lies within five of them, and the estimate is within 5 % (its own relative error is
    1 / sqrt(2 * 2500) = 1.4 % for one cell).
    """
    explainer = get_explainer("smoothgrad", copies=2500, sigma=0.125)
    [one] = explainer.explain(VisionModel(Square()), X, ClassScore(0))
    np.testing.assert_allclose(one.values, [[6, 2], [2, 4]], rtol=0, atol=0.1)
    assert one.evidence["standard_error"] == pytest.approx(0.02, rel=0.05)
    assert one.evidence["copies"] == 2500
    signed = get_explainer("smoothgrad", copies=2500, sigma=0.125, output="signed")
    [one] = signed.explain(VisionModel(Square()), X, ClassScore(0))
    # x * 2 x, with errors of |x| * 0.02: their mean over 3, 1, 1 and 2 is 0.035
    np.testing.assert_allclose(one.values, [[18, 2], [2, 8]], rtol=0, atol=0.3)
    assert one.evidence["standard_error"] == pytest.approx(0.035, rel=0.05)


def noises(copies: int, shape: torch.Size, seed: int) -> Tensor:
    """Return the noise as it is defined: every copy has its own seed, drawn from the question's."""
    own = torch.randint(2**62, (copies,), generator=torch.Generator().manual_seed(seed))
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in own.tolist()]
    )


@pytest.mark.parametrize("output", ["sensitivity", "signed"])
@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_a_loop_over_copies_gives_the_same(output: str, build: object) -> None:
    """One image, one copy, one gradient at a time; mean and standard error by numpy."""
    model, batch = build().to(dtype=torch.float64), models.inputs(2)  # type: ignore[operator]
    found = get_explainer("smoothgrad", copies=5, sigma=0.2, output=output).explain(
        model, batch, [ClassScore(1), ClassScore(3)], seed=7
    )
    for one, x, cls in zip(found, batch.double(), (1, 3), strict=True):
        gradients = []
        for noise in noises(5, x.shape, 7).double():
            noisy = (x + 0.2 * (x.max() - x.min()) * noise)[None].requires_grad_()
            [g] = torch.autograd.grad(model.module(noisy)[0, cls], noisy)
            gradients.append(g[0].numpy())
        if output == "signed":
            maps = np.stack([(x.numpy() * g).sum(0) for g in gradients])
            mean, error = maps.mean(0), maps.std(0, ddof=1) / 5**0.5
        else:
            every = np.stack(gradients)
            largest = np.abs(every.mean(0)).argmax(0)[None]
            mean = np.abs(np.take_along_axis(every.mean(0), largest, 0)[0])
            error = np.take_along_axis(every.std(0, ddof=1), largest, 0)[0] / 5**0.5
        # float64 rounded to float32
        np.testing.assert_allclose(one.values, mean, rtol=0, atol=1e-6 * np.abs(mean).max())
        assert one.evidence["standard_error"] == pytest.approx(error.mean(), rel=1e-9)
        assert one.provenance["seed"] == 7


def test_captum_s_noise_tunnel_agrees_within_the_standard_error() -> None:
    """Captum draws other noise: two estimates of one mean differ by sqrt(2) standard errors.

    Captum averages |g|, which is not the paper's mean of g, unless it is told abs=False. Both
    standard errors are of the mean of the colours' largest; its square over all cells is compared.
    """
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1).double()
    copies, sigma = 400, 0.1
    [one] = get_explainer("smoothgrad", copies=copies, sigma=sigma).explain(
        model, batch, ClassScore(2)
    )
    span = float(batch.max() - batch.min())
    torch.manual_seed(3)
    other = NoiseTunnel(Saliency(model.module)).attribute(
        batch.clone(), nt_samples=copies, stdevs=sigma * span, target=2, abs=False
    )
    expected = other.detach().abs().amax(1)[0].numpy()
    distance = float(np.abs(one.values - expected).mean())
    # the mean of |N(0, 1)| is 0.8, so 0.8 * sqrt(2) = 1.13 standard errors on average
    assert distance < 1.5 * one.evidence["standard_error"]
    assert one.evidence["standard_error"] < 0.05 * float(expected.max())


def test_how_many_copies_run_at_once_does_not_matter() -> None:
    """One at a time under a budget of one byte, all sixteen otherwise."""
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1)
    smooth = get_explainer("smoothgrad")
    [one] = smooth.explain(model, batch, budget=1)
    [other] = smooth.explain(model, batch)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-5)
    assert one.evidence["standard_error"] == pytest.approx(other.evidence["standard_error"])
    assert (one.evidence["forwards"], one.evidence["backwards"]) == (17, 16)
    assert (other.evidence["forwards"], other.evidence["backwards"]) == (2, 1)


def test_another_seed_draws_other_noise() -> None:
    model, batch = models.convolutional(), models.inputs(1)
    first, second = (get_explainer("smoothgrad").explain(model, batch, seed=s)[0] for s in (0, 1))
    assert not np.array_equal(first.values, second.values)


def test_all_copies_answer_the_question_of_the_clean_image() -> None:
    """Noise may change the answer; the seed stays that of the image."""
    model, batch = models.convolutional(), models.inputs(1)
    answer = int(model.logits(batch).argmax())
    smooth = get_explainer("smoothgrad", sigma=3.0)
    predicted, named = smooth.explain(model, batch, [[Predicted(), ClassScore(answer)]])
    np.testing.assert_array_equal(predicted.values, named.values)


def test_what_the_model_ignores_is_exactly_zero() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = models.convolutional().module

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x[..., :16].repeat(1, 1, 1, 2))

    [one] = explain(VisionModel(Half()), models.inputs(1), "smoothgrad")
    assert np.count_nonzero(one.values[:, 16:]) == 0
    assert one.values[:, :16].min() > 0


@pytest.mark.parametrize(
    "parameters",
    [
        {"copies": 1},
        {"copies": 2.5},
        {"sigma": 0},
        {"sigma": float("nan")},
        {"sigma": float("inf")},
        {"sigma": "much"},
        {"output": "path"},
    ],
)
def test_values_that_mean_nothing_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        get_explainer("smoothgrad", **parameters)
