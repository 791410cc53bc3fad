"""``cvx.score`` as a whole: whose maps, of which question, by which measures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cvx_score import MEASURES, Score, completeness, deletion, road
from cvx_score.curve_figure import curve_figure, png
from torch import nn

import cvx_core as cvx
from cvx_core import Box, MaskRegion, OptionError, UsageError, VisionModel
from cvx_core.testing.models import SIZE, convolutional

UNPREDICTED = 4
"""A class that the network answers for none of the images."""


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def by_measure(scores: list[Score]) -> dict[str, Score]:
    return {score.measure: score for score in scores}


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return convolutional()


def test_it_is_a_function_of_cvx_core_too(model: VisionModel) -> None:
    from cvx_score import score

    assert cvx.score is score


def test_a_score_has_the_numbers_of_the_function_that_makes_it(model: VisionModel) -> None:
    found = by_measure(cvx.score(model, images(), "input-x-gradient", steps=4))
    made = cvx.explain(model, images(), "input-x-gradient", cvx.Predicted())
    maps = [one.values for one in made]
    alone = deletion(model, images(), maps, steps=4)
    assert found["deletion"].values == tuple(alone.scores)
    assert found["deletion"].curves == tuple(map(tuple, alone.values))
    assert found["deletion"].passes == alone.passes
    assert found["deletion"].value == pytest.approx(alone.scores.mean())
    least = road(model, images(), maps, least_first=True)
    assert found["road-lerf"].values == tuple(least.scores)
    assert found["road-lerf"].details["accuracy"] == tuple(least.accuracy)


def test_without_a_choice_all_is_measured_that_needs_nothing(model: VisionModel) -> None:
    plain = cvx.score(model, images(1), "input-x-gradient", steps=2)
    assert [s.measure for s in plain] == [
        "insertion", "deletion", "road", "road-lerf", "completeness",
    ]  # fmt: skip
    placed = cvx.score(model, images(1), "input-x-gradient", steps=2, regions=(0, 0, 9, 9))
    assert {s.measure for s in placed} == {*MEASURES} - {"amounts", "randomization"}


def test_maps_from_elsewhere_are_scored_by_their_names(model: VisionModel) -> None:
    maps = np.random.default_rng(0).normal(size=(2, SIZE, SIZE))
    found = cvx.score(
        model, images(), {"mine": maps, "ours": "grad-cam"}, measures=["deletion"], steps=2
    )
    assert [(s.method, s.measure) for s in found] == [("mine", "deletion"), ("ours", "deletion")]
    assert found[0].values == tuple(deletion(model, images(), maps, steps=2).scores)


@pytest.mark.parametrize(
    "target",
    [
        cvx.Predicted(),
        cvx.ClassScore(3),
        cvx.Contrast("ant", "bee"),
        cvx.Distribution(),
        cvx.Margin(UNPREDICTED),
        cvx.Error(UNPREDICTED),
    ],
    ids=repr,
)
def test_explanations_are_asked_again_what_they_answer(
    model: VisionModel, target: cvx.Target
) -> None:
    made = cvx.explain(model, images(), "input-x-gradient", target)
    if isinstance(target, cvx.Margin):
        assert all(one.target.correct is False for one in made)  # else the maps are zero
    again = cvx.score(model, images(), made, measures=["deletion"], steps=3)
    result = cvx.score(model, images(), "input-x-gradient", target, measures=["deletion"], steps=3)
    assert again[0].values == result[0].values
    assert again[0].method == "input-x-gradient"


def test_explanations_of_other_images_are_refused(model: VisionModel) -> None:
    made = cvx.explain(model, images(), "input-x-gradient")
    with pytest.raises(UsageError, match="same order"):
        cvx.score(model, images().flip(0), made)
    with pytest.raises(UsageError, match="1 maps for 2 images"):
        cvx.score(model, images(), made[:1])


def test_completeness_is_the_residual_that_the_evidence_has(model: VisionModel) -> None:
    [made] = cvx.explain(model, images(1), "activation-error", cvx.Predicted())
    [found] = cvx.score(model, images(1), [made], measures=["completeness"])
    assert found.values == (made.evidence["residual"],)
    assert found.passes == 0
    assert found.details["against"] == ("evidence",)


def test_completeness_of_a_map_from_elsewhere_is_measured_against_zero() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]]))
        net[1].bias.copy_(torch.tensor([0.0, 100]))
    model, image = VisionModel(net), torch.ones(1, 1, 2, 2)
    whole = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    found = completeness(model, image, whole, 1)
    assert (found.sums.tolist(), found.differences.tolist()) == ([10], [10])
    assert found.scores.tolist() == [0]
    # The bias is in both answers. Half of the sum is half of the larger one away.
    assert completeness(model, image, whole / 2, 1).scores.tolist() == [0.5]
    assert completeness(model, image, -whole, 1).scores.tolist() == [2]
    [scored] = cvx.score(model, image, {"half": whole / 2}, 1, measures=["completeness"])
    assert scored.values == (0.5,)


def test_completeness_of_a_map_without_a_meaningful_sum_has_a_reason(model: VisionModel) -> None:
    kinds = ["input-x-gradient", "gradient-error"]
    first, second = cvx.score(model, images(1), kinds, 0, measures=["completeness"])
    assert first.values[0] is not None
    assert (second.values, second.passes) == ((None,), 0)
    assert second.reasons == ("the map has no meaningful sum",)


def test_randomization_is_what_the_sanity_check_finds(model: VisionModel) -> None:
    [made] = cvx.explain(model, images(1), "input-x-gradient", cvx.Predicted(), sanity=True)
    verdict = made.evidence["sanity"]
    [found] = cvx.score(model, images(1), "input-x-gradient", measures=["randomization"])
    assert found.values == (max(verdict["correlation"].values()),)
    assert found.curves == (tuple(verdict["correlation"][stage] for stage in found.shares),)
    assert found.details["verdicts"] == (verdict["verdict"],)
    assert found.passes is None
    [taken] = cvx.score(model, images(1), [made], measures=["randomization"])
    assert taken.values == found.values


def test_randomization_of_maps_without_their_explainer_has_a_reason(model: VisionModel) -> None:
    maps = np.random.default_rng(0).normal(size=(1, 4, 4))
    [found] = cvx.score(model, images(1), {"mine": maps}, measures=["randomization"])
    assert (found.values, found.value) == ((None,), None)
    assert "sanity=True" in found.reasons[0]


def test_an_image_whose_map_says_nothing_has_a_reason_and_the_others_a_value(
    model: VisionModel,
) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 8, 8))
    maps[0] = 0
    found = by_measure(
        cvx.score(model, images(), {"mine": maps}, [1, 2], regions=(0, 0, 16, 16), steps=3)
    )
    alone = deletion(model, images()[1:], maps[1:], 2, steps=3)
    assert found["deletion"].values == (None, pytest.approx(alone.scores[0], abs=1e-6))
    assert found["deletion"].value == found["deletion"].values[1]
    for measure in ("deletion", "road", "mass"):
        assert "is constant" in found[measure].reasons[0]
        assert found[measure].reasons[1] == ""


def test_regions_are_boxes_masks_or_regions_of_the_photograph(model: VisionModel) -> None:
    maps = np.ones((1, SIZE, SIZE))
    maps[0, :8, :16] = 3
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:8, :16] = True
    # 128 pixels of 3, and 896 of 1.
    mass = 384 / (384 + 896)
    for region in ((0, 0, 16, 8), Box(0, 0, 16, 8), mask, MaskRegion(mask), [Box(0, 0, 16, 8)]):
        [found] = cvx.score(model, images(1), {"m": maps}, measures=["mass"], regions=region)
        assert found.values == (pytest.approx(mass),)
        assert found.details["area"] == (128 / 1024,)


def test_what_can_t_be_measured_is_refused_with_the_way_out(model: VisionModel) -> None:
    with pytest.raises(UsageError, match="--region"):
        cvx.score(model, images(), "grad-cam", measures=["pointing"])
    with pytest.raises(OptionError, match="Did you mean 'deletion'"):
        cvx.score(model, images(), "grad-cam", measures=["deletoin"])
    with pytest.raises(UsageError, match="2 images and 1 regions"):
        cvx.score(model, images(), "grad-cam", regions=[Box(0, 0, 9, 9)])
    with pytest.raises(UsageError, match="explainers is empty"):
        cvx.score(model, images(), [])


def test_a_score_is_json(model: VisionModel) -> None:
    for one in cvx.score(model, images(1), ["grad-cam", "energy"], steps=2):
        result = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert result["value"] == one.value
        assert result["better"] == MEASURES[one.measure]


def test_the_table_has_a_line_for_each_method(model: VisionModel) -> None:
    from cvx_score.report import table

    maps = np.random.default_rng(0).normal(size=(1, 4, 4))
    scores = cvx.score(
        model, images(1), {"mine": maps, "flat": 0 * maps}, measures=["deletion"], steps=2
    )
    lines = table(scores).splitlines()
    assert lines[0].split() == ["deletion", "-"]
    assert lines[1].split() == ["mine", f"{scores[0].value:.3f}"]
    assert lines[2].split() == ["flat", "none"]
    assert lines[4].startswith("flat, deletion: The map is constant")
    assert lines[5:7] == ["", "cost     deletion"]
    assert lines[7].split() == ["passes", str(scores[0].passes)]
    assert [line.split()[0] for line in lines[8:]] == ["seconds"]


def test_the_figure_has_a_panel_for_each_measure_and_a_line_for_each_method() -> None:
    def of(method: str, measure: str, *curves: tuple[float, ...]) -> Score:
        return Score(method, measure, (), (), "probability", (0.0, 0.5, 1.0), curves)

    figure = curve_figure([
        of("$a$", "insertion", (0.0, 0.2, 0.8), (0.2, 0.4, 1.0), ()),
        of("b", "insertion", (0.5, 0.5, 0.5)),
        of("b", "deletion", (1.0, 0.5, 0.0)),
        of("c", "deletion", ()),
        Score("b", "randomization", (), (), "correlation", ("output",), ((0.5,),)),
    ])  # fmt: skip
    assert figure is not None
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == (
        "insertion: higher is better",
        "deletion: lower is better",
    )
    # The image without a curve does not count.
    np.testing.assert_allclose(first.lines[0].get_xydata(), [(0, 0.1), (0.5, 0.3), (1, 0.9)])
    assert (len(first.lines), len(second.lines)) == (2, 1)
    assert first.lines[1].get_color() == second.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"\$a\$", "b"]
    assert png(figure).startswith(b"\x89PNG")
    assert curve_figure([of("c", "deletion", ())]) is None
