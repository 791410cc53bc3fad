"""The model-randomization check: what it concludes from correlations, and on whole networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from cvx_embedded import photographs
from cvx_score.checks.randomization import DRAWS, STAGES, Trial

from cvx_core import (
    Attribution,
    ClassScore,
    Explainer,
    ExplainRequest,
    Explanation,
    MethodError,
    Predicted,
    Requirements,
    VisionModel,
    explain,
    load_model,
    smooth,
)
from cvx_core.testing import models
from cvx_core.testing.kits.explainers import assert_state, state_of


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of a map with that of a random network."""
    one = Trial(a)
    one.compare("all", np.stack([b, b]))
    return one.correlation["all"][0]


def test_the_rank_correlation_with_ties_is_the_one_worked_out_by_hand() -> None:
    """Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)."""
    a, b = np.array([[1, 2], [2, 30]]), np.array([[-5, 0], [1, 2]])
    assert rank_correlation(a, b) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert rank_correlation(np.array([[1, 2], [3, 400]]), np.array([[0, 5], [6, 7]])) == 1
    assert rank_correlation(a, -b) == pytest.approx(-4.5 / (4.5 * 5) ** 0.5)


def test_a_map_that_is_the_same_everywhere_correlates_with_nothing() -> None:
    flat = np.ones((2, 2))
    assert np.isnan(rank_correlation(flat, np.arange(4.0).reshape(2, 2)))
    assert np.isnan(rank_correlation(np.full((2, 2), np.nan), flat))


def trial(class_specific: bool = True, **correlations: tuple[float, float]) -> Trial:
    """Return a trial with a mean correlation and chance for some stages, and none elsewhere."""
    one = Trial(np.arange(4.0).reshape(2, 2), class_specific)
    for stage in STAGES:
        same, chance = correlations.get(stage, (0.0, 0.0))
        # Draws differ; what counts is their mean.
        one.correlation[stage] = [same - 0.1, same + 0.1] * (DRAWS // 2)
        one.chance[stage] = [chance] * DRAWS
    return one


@pytest.mark.parametrize(
    ("correlations", "verdict"),
    [
        ({}, "passes"),
        ({"output": (0.79, 0.0)}, "passes"),
        ({"output": (0.81, 0.0)}, "unclear"),
        ({"output": (0.91, 0.2)}, "fails"),
        # One stage is enough, whichever.
        ({"two_thirds": (0.91, 0.2)}, "fails"),
        # A bias to the centre that every view has as well: 0.91 is no half of the way to 1.
        ({"output": (0.91, 0.85)}, "unclear"),
        # The same map for another image and with other weights.
        ({"output": (0.95, 0.95)}, "fails"),
        ({"all": (-0.9, -0.9)}, "passes"),
    ],
)
def test_the_stage_where_the_map_changes_least_decides(
    correlations: dict[str, tuple[float, float]], verdict: str
) -> None:
    assert trial(**correlations).verdict(0)["verdict"] == verdict


def test_of_a_map_that_is_the_same_for_all_classes_only_the_whole_network_is_asked() -> None:
    """Layers behind its place can't change it."""
    assert trial(False, output=(1.0, 0.0), third=(1.0, 0.0)).verdict(0)["verdict"] == "passes"
    assert trial(False, all=(0.91, 0.0)).verdict(0)["verdict"] == "fails"


@pytest.mark.parametrize(
    ("draws", "open_"),
    [
        # With six of which the rest are 1: (2 * 0.39 + 4) / 6 = 0.797, (2 * 0.41 + 4) / 6 = 0.803.
        ([0.39] * 2, False),
        ([0.41] * 2, True),
        # (3 * 0.59 + 3) / 6 = 0.795, (3 * 0.61 + 3) / 6 = 0.805.
        ([0.59] * 3, False),
        ([0.61] * 3, True),
        # (4 * 0.69 + 2) / 6 = 0.793, (4 * 0.71 + 2) / 6 = 0.807.
        ([0.69] * 4, False),
        ([0.71] * 4, True),
        # At least two, and at most six.
        ([-1.0], True),
        ([1.0] * 6, False),
        # A map that is the same everywhere makes it unclear, whatever comes.
        ([0.9, float("nan")], False),
    ],
)
def test_a_stage_has_no_more_draws_once_they_can_t_change_the_verdict(
    draws: list[float], open_: bool
) -> None:
    one = Trial(np.arange(4.0).reshape(2, 2))
    one.correlation["third"] = draws
    assert one.open("third") == open_


def test_stages_that_decide_nothing_have_no_more_than_they_must() -> None:
    one = Trial(np.arange(4.0).reshape(2, 2), class_specific=False)
    one.correlation.update(third=[1.0] * 2, all=[1.0] * 2)
    assert (one.open("third"), one.open("all")) == (False, True)


def test_a_map_that_changes_has_two_draws_and_one_that_stays_has_six() -> None:
    stays, changes = (one.evidence["sanity"]["draws"] for one in checked(Brightness(), Gradient()))
    assert stays.to_dict() == dict.fromkeys(STAGES, 6)
    assert changes.to_dict() == dict.fromkeys(STAGES, 2)


def test_the_verdict_says_which_part_of_the_network_does_not_matter() -> None:
    verdict = trial(third=(0.95, 0.25)).verdict(5)
    assert verdict["reason"] == (
        "The map hardly depends on what the last third of the network has learned (rank "
        "correlation 0.95, 0.25 with another view of the image)."
    )
    assert verdict["correlation"] == {
        "output": 0.0,
        "third": 0.95,
        "two_thirds": 0.0,
        "all": 0.0,
    }
    assert (verdict["seed"], verdict["chance"]["third"]) == (5, 0.25)
    assert verdict["draws"] == dict.fromkeys(STAGES, DRAWS)


def test_of_an_untrained_network_it_is_said_that_nothing_was_learned() -> None:
    verdict = trial(all=(0.1, 0.0)).verdict(0, untrained=True)
    assert verdict["verdict"] == "passes"
    assert verdict["reason"] == (
        "The map changes with the network's weights (rank correlation 0.10, 0.00 with another "
        "view of the image). The network has learned nothing: only its random weights were "
        "exchanged."
    )


@pytest.mark.parametrize("weights", ["random", "published"])
def test_whether_it_has_learned_anything_is_what_its_source_says(weights: str) -> None:
    model = models.convolutional()
    model.details = {"weights": weights}
    [found] = Gradient().explain(model, models.inputs(1), sanity=True)
    assert ("learned nothing" in found.evidence["sanity"]["reason"]) == (weights == "random")


def test_what_can_t_be_compared_is_unclear() -> None:
    flat = Trial(np.zeros((2, 2)))
    flat.compare("all", np.zeros((2, 2, 2)))
    assert flat.verdict(0)["verdict"] == "unclear"
    dead = trial()
    dead.correlation["third"][2] = float("nan")
    verdict = dead.verdict(0)
    assert verdict["verdict"] == "unclear"
    assert set(verdict["correlation"]) == {"output", "two_thirds", "all"}


@dataclass(frozen=True)
class Gradient(Explainer):
    """The gradient at the pixels, summed over channels."""

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        seeds = request.seeds(recording.logits)
        asked.append([seed.argmax(1).tolist() for seed in seeds])
        return [Attribution(recording.gradient(seed, "input").sum(1)) for seed in seeds]


asked: list[list[list[int]]] = []


@dataclass(frozen=True)
class Brightness(Explainer):
    """The image itself, whatever the network: what the check is there to find."""

    class_specific: ClassVar[bool] = True

    def requirements(self) -> Requirements:
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        return [Attribution(request.inputs.sum(1)) for _ in request.seeds(recording.logits)]


@dataclass(frozen=True)
class Picky(Gradient):
    """Has an answer for one model alone."""

    model: VisionModel

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        if request.model is not self.model:
            raise MethodError("These weights mean nothing to me.", "Train them.")
        return super().attribute(request)


def verdicts(found: list[Explanation]) -> list[str]:
    return [one.evidence["sanity"]["verdict"] for one in found]


def checked(*explainers: Explainer, count: int = 1, **options: Any) -> list[Explanation]:
    model = models.convolutional()
    return explain(model, models.inputs(count), explainers, sanity=True, **options)


def test_a_map_that_ignores_the_network_fails_and_the_gradient_passes() -> None:
    found = checked(Brightness(), Gradient())
    assert verdicts(found) == ["fails", "passes"]
    assert found[0].evidence["sanity"]["correlation"]["all"] == 1.0
    assert "hardly depends on" in found[0].evidence["sanity"]["reason"]


def test_nothing_is_checked_unless_asked() -> None:
    [one] = explain(models.convolutional(), models.inputs(1), Gradient())
    assert "sanity" not in one.evidence


def test_the_map_and_its_costs_are_those_without_the_check() -> None:
    [plain] = explain(models.convolutional(), models.inputs(1), Gradient())
    [found] = checked(Gradient())
    np.testing.assert_array_equal(found.values, plain.values)
    for key in ("forwards", "backwards", "bytes"):
        assert found.evidence[key] == plain.evidence[key]


def test_random_networks_are_asked_about_the_class_that_the_model_saw() -> None:
    asked.clear()
    [found] = checked(Gradient(), target=Predicted())
    # Once for the map, then the image and another view of it for each draw of each stage.
    assert len(asked) == 1 + sum(found.evidence["sanity"]["draws"].to_dict().values())
    [[[predicted]], *again] = asked
    assert predicted == found.target.predicted.index
    assert all(seeds == [[predicted, predicted]] for seeds in again)


def test_a_verdict_does_not_depend_on_what_else_is_explained() -> None:
    model, x = models.convolutional(), models.inputs(3)
    targets = [[ClassScore(0), ClassScore(1)], [ClassScore(2)], [Predicted()]]
    together = explain(model, x, [Gradient(), Brightness()], targets, sanity=True)
    [alone] = explain(model, x[1:2], Gradient(), ClassScore(2), sanity=True)
    assert [one.method for one in together] == ["gradient"] * 2 + ["brightness"] * 2 + [
        "gradient",
        "brightness",
    ] * 2
    again = together[4].evidence["sanity"]
    # Rounding differs between batches, which moves single ranks.
    for key in ("correlation", "chance"):
        assert again[key].to_dict() == pytest.approx(
            alone.evidence["sanity"][key].to_dict(), abs=0.01
        )
    assert again["verdict"] == alone.evidence["sanity"]["verdict"]


def test_the_seed_decides_the_random_networks() -> None:
    [one], [same], [other] = (checked(Gradient(), seed=seed) for seed in (0, 0, 1))
    assert one.evidence["sanity"] == same.evidence["sanity"]
    assert one.evidence["sanity"]["correlation"] != other.evidence["sanity"]["correlation"]
    assert other.evidence["sanity"]["seed"] == 1


def test_the_model_is_as_found() -> None:
    model = models.convolutional()
    model.module.train()
    before, weights = state_of(model.module), model.digest()
    Gradient().explain(model, models.inputs(1), sanity=True)
    assert_state(before, state_of(model.module))
    assert model.digest() == weights


def test_a_method_without_an_answer_for_random_weights_is_unclear() -> None:
    model = models.convolutional()
    both = [Picky(model), Gradient()]
    picky, gradient = explain(model, models.inputs(1), both, sanity=True)
    verdict = picky.evidence["sanity"]
    assert verdict["verdict"] == "unclear"
    assert "mean nothing to me" in verdict["reason"]
    assert gradient.evidence["sanity"]["verdict"] == "passes"


def test_a_network_that_exits_with_random_weights_is_not_blamed_on_the_method() -> None:
    class Exits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = models.convolutional().module
            self.known = [p.detach().clone() for p in self.net.parameters()]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if any((a != b).any() for a, b in zip(self.known, self.net.parameters(), strict=True)):
                raise SystemExit("other weights")
            answer: torch.Tensor = self.net(x)
            return answer

    [found] = Gradient().explain(VisionModel(Exits()), models.inputs(1), sanity=True)
    verdict = found.evidence["sanity"]
    assert verdict["verdict"] == "unclear"
    assert "other weights" in verdict["reason"]


def test_compositions_are_checked_like_any_other() -> None:
    [found] = checked(smooth(Gradient(), n=3))
    assert found.evidence["sanity"]["verdict"] == "passes"


@pytest.mark.slow
def test_guided_backprop_and_the_deconvnet_fail_on_photographs_and_gradients_pass() -> None:
    """As in table 1 and figure 3 of Adebayo 2018."""
    model = load_model("embedded")
    passing = ["saliency", "grad-cam", "activation-error"]
    failing = ["guided-backprop", "deconvnet"]
    for photograph in photographs():
        found = explain(model, photograph.path, passing + failing, Predicted(), sanity=True)
        assert verdicts(found) == ["passes"] * 3 + ["fails"] * 2
