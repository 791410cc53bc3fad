"""Networks that return probabilities: explained at their logits, or refused with both readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.models.final_activation import check_range

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Four logits, and what is made of them."""

    def __init__(self, end: Callable[[Tensor], Any] = lambda z: z) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.body(x))


LOGITS = Net()(X).detach()

ENDS = {
    "function": lambda z: torch.softmax(z, 1),
    "method": lambda z: z.softmax(dim=-1),
    "module": nn.Softmax(dim=1),
    "functional": lambda z: nn.functional.softmax(z, dim=1),
    "view": lambda z: z.softmax(1).view(-1, 2, 2).flatten(1),
    "mapping": lambda z: {"logits": z.softmax(1), "aux": z},
    "tuple": lambda z: (z.softmax(1), z),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_final_softmax_is_left_out(end: Callable[[Tensor], Any]) -> None:
    model = cvx.VisionModel(Net(end))
    for _ in range(2):  # the first pass finds it, the second knows it
        np.testing.assert_array_equal(model.logits(X), LOGITS)
    assert "softmax" in model.output_note


def test_maps_are_those_of_the_network_without_it() -> None:
    plain, ended = cvx.VisionModel(Net()), cvx.VisionModel(Net(nn.Softmax(dim=1)))
    for name in ("class-attention", "activation-error", "gradient-error", "lrp-epsilon"):
        pairs = zip(*(cvx.explain(one, X, name, label=2) for one in (plain, ended)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one.values, other.values)
            assert not one.provenance["output_note"]
            assert "softmax" in other.provenance["output_note"]


def test_a_saturated_probability_loses_nothing() -> None:
    model = cvx.VisionModel(Net(lambda z: (200 * z).softmax(1)))
    assert model.logits(X).abs().max() > 10
    assert torch.isfinite(model.logits(X)).all()


def test_the_softmax_of_attention_is_not_the_final_one() -> None:
    def attend(z: Tensor) -> Tensor:
        return z.softmax(1) @ z.T

    assert cvx.VisionModel(Net(attend)).output_note == ""
    model = cvx.VisionModel(Net(attend))
    np.testing.assert_array_equal(model.logits(X), attend(LOGITS))


def test_a_softmax_over_the_batch_is_no_activation_of_classes() -> None:
    model = cvx.VisionModel(Net(lambda z: z.softmax(0)))
    with pytest.raises(cvx.ModelError, match="probabilities or logits"):
        model.logits(X)


def test_another_activation_than_the_tasks_is_refused_with_both_ways_out() -> None:
    model = cvx.VisionModel(Net(torch.sigmoid))
    for _ in range(2):
        with pytest.raises(cvx.ModelError) as caught:
            model.logits(X)
        assert "ends in a sigmoid" in str(caught.value)
        assert "task='multi-label'" in caught.value.hint
        assert "activation='sigmoid'" in caught.value.hint
    chosen = cvx.VisionModel(Net(torch.sigmoid), activation="sigmoid")
    np.testing.assert_array_equal(chosen.logits(X), LOGITS)


def test_values_in_the_unit_interval_are_refused_unless_a_linear_function_made_them() -> None:
    hidden = cvx.VisionModel(Net(lambda z: z.sigmoid() * 1.0))
    with pytest.raises(cvx.ModelError, match="probabilities or logits") as caught:
        hidden.predict(X)
    for word in ("'sigmoid'", "'softmax'", "'none'"):
        assert word in caught.value.hint
    small = Net()
    with torch.no_grad():
        small.body[-1].weight.mul_(0.01)
        small.body[-1].bias.fill_(0.5)
    assert cvx.VisionModel(small).predict(X)
    assert cvx.VisionModel(Net(lambda z: z.sigmoid() * 1.0), activation="none").predict(X)


@pytest.mark.parametrize("name", ["tanh", "softsign"])
def test_what_also_has_negative_values_is_no_probability(name: str) -> None:
    values = {"tanh": torch.tanh, "softsign": nn.functional.softsign}[name]
    model = cvx.VisionModel(Net(lambda z: values(z.abs())))
    np.testing.assert_array_equal(model.logits(X), values(LOGITS.abs()))


def test_the_end_of_no_grad_is_not_what_made_the_output() -> None:
    @torch.no_grad()
    def end(z: Tensor) -> Tensor:
        return 0.5 + 0.01 * nn.functional.linear(z.sigmoid(), torch.eye(4))

    np.testing.assert_array_equal(cvx.VisionModel(Net(end)).logits(X), end(LOGITS))


def test_scaled_similarities_are_no_probabilities() -> None:
    """As CLIP returns them: a product of features behind attention, times a scale, transposed."""
    texts = torch.eye(LOGITS.shape[1])

    def end(z: Tensor) -> Tensor:
        return ((texts @ z.softmax(1).T) * torch.tensor(-0.7).exp()).t()

    values = end(LOGITS)
    assert values.min() >= 0
    assert values.max() <= 1
    np.testing.assert_array_equal(cvx.VisionModel(Net(end)).logits(X), values)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_given_probabilities_are_inverted(activation: str) -> None:
    def end(z: Tensor) -> Tensor:
        return (z.sigmoid() if activation == "sigmoid" else z.softmax(1)) * 1.0

    model = cvx.VisionModel(Net(end), activation=activation)
    found, expected = model.logits(X), LOGITS
    if activation == "softmax":
        expected = expected.log_softmax(1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(cvx.OptionError):
        cvx.VisionModel(Net(), activation="relu")


def test_values_outside_of_it_or_not_finite_are_no_probabilities() -> None:
    for values in ([-0.1, 0.5], [0.5, 1.1], [0.3, float("nan")], [0.5, 0.5]):
        check_range(torch.tensor([values]))


def test_a_network_that_works_in_place_gets_its_own_input() -> None:
    class Normalises(Net):
        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            x /= 0.25
            return self.body(x)

    class Twin(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.body((x - 0.5) / 0.25)

    given = X.clone()
    here, twin = cvx.VisionModel(Normalises()), cvx.VisionModel(Twin())
    np.testing.assert_array_equal(here.logits(given), twin.logits(X))
    assert torch.equal(given, X)
    for name in ("gradient-error", "activation-error", "occlusion", "integrated-gradients"):
        one, other = (cvx.explain(m, given, name, cvx.ClassScore(1))[0] for m in (here, twin))
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)


def test_a_softmax_that_is_put_behind_the_network_later_is_found() -> None:
    model = cvx.VisionModel(Net(nn.Identity()))
    [before] = cvx.explain(model, X[:1], "grad-cam", cvx.ClassScore(1))
    model.module.end = nn.Softmax(dim=1)
    [after] = cvx.explain(model, X[:1], "grad-cam", cvx.ClassScore(1))
    np.testing.assert_array_equal(after.values, before.values)
    assert after.target.probability == pytest.approx(before.target.probability)
