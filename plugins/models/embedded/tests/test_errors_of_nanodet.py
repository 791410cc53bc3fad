"""NanoDet's errors on photographs: of which type, what they ask, and where objects were lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cvx_diagnose.analysis.metrics.tide import tide
from tidecv import TIDE, Data
from tidecv.quantify import Qualifier

from cvx_core import Box, DetectionPrediction, GroundTruthBoxes, VisionModel, load_model
from cvx_core.tasks.catalogue import find_mistakes
from cvx_core.tasks.detection.missed_objects import without_stage
from cvx_core.tasks.detection.mistakes import BoxMistake

DATA = Path(__file__).parent / "data/nanodet"

# Drawn by hand upon the photographs as they were resized, 416 x 416.
TRUTHS = {
    "horse": (
        [[236, 148, 366, 352], [50, 133, 160, 353], [133, 144, 230, 335], [118, 309, 197, 364]],
        ["horse", "horse", "horse", "horse"],
    ),
    "chelsea": ([[0, 0, 416, 416]], ["cat"]),
    "wormsCathedral": (
        [
            [241, 330, 256, 350],
            [225, 331, 240, 351],
            [314, 333, 326, 357],
            [323, 338, 330, 357],
            [274, 350, 308, 371],
            [303, 350, 339, 371],
        ],
        ["person", "person", "person", "person", "bench", "bench"],
    ),
}


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return load_model("embedded:nanodet")


@pytest.fixture(scope="module")
def answers(model: VisionModel) -> dict[str, DetectionPrediction]:
    found = model.predict([DATA / f"{name}.png" for name in TRUTHS])
    return dict(zip(TRUTHS, found, strict=True))


def errors(answers: dict[str, DetectionPrediction], name: str) -> list[BoxMistake]:
    found = find_mistakes(answers[name], GroundTruthBoxes.of(*TRUTHS[name]))
    assert all(isinstance(one, BoxMistake) for one in found)
    return found  # type: ignore[return-value]


def test_a_foal_is_called_a_dog_and_a_cat_a_person(answers: dict[str, DetectionPrediction]) -> None:
    for name, text, margin in [
        ("horse", "classification: dog and not horse", 1.86),
        ("chelsea", "classification: person and not cat", 1.24),
    ]:
        [case] = errors(answers, name)
        assert case.text == text
        # Differences of the reference's logits, which float32 has to 1e-5.
        assert case.margin == pytest.approx(margin, abs=0.005)
        seed, record = answers[name].resolve(case.target)
        assert record.score == pytest.approx(case.margin)
        assert sorted(seed[seed != 0]) == [-1, 1]


def test_persons_and_benches_are_missed_at_different_stages(
    answers: dict[str, DetectionPrediction],
) -> None:
    *missed, bench = errors(answers, "wormsCathedral")
    assert bench.text == "localisation: bench", "one box for two benches"
    assert [(one.text, one.lost.stage) for one in missed if one.lost] == [
        ("missed: person", "threshold"),  # in dark clothes against a dark wall: .36
        ("missed: person", "candidate"),  # hidden by half
        ("missed: bench", "candidate"),
    ]


def test_an_object_comes_back_when_the_stages_that_lost_it_are_overridden(
    answers: dict[str, DetectionPrediction],
) -> None:
    truth = GroundTruthBoxes.of(*TRUTHS["wormsCathedral"])
    for case in errors(answers, "wormsCathedral")[:3]:
        assert isinstance(case.region, Box)
        assert case.true is not None
        answer, lost, stages = answers["wormsCathedral"], case.lost, []
        while lost is not None and lost.stage:
            stages.append(lost.stage)
            assert not case.judge(answer).right
            answer = without_stage(answer, lost, case.region, case.true.index)
            left = [one for one in find_mistakes(answer, truth) if one.region == case.region]
            lost = left[0].lost if left and isinstance(left[0], BoxMistake) else None
        assert case.judge(answer).right
        assert stages[0] == case.lost.stage, "and then perhaps later ones"
        assert stages in (["threshold"], ["candidate", "threshold"])


def test_counts_and_gains_over_the_photographs_are_those_of_the_authors_package(
    answers: dict[str, DetectionPrediction],
) -> None:
    truths = [GroundTruthBoxes.of(*TRUTHS[name]) for name in TRUTHS]
    report = tide([answers[name] for name in TRUTHS], truths, threshold=0.05)
    true_data, said_data = Data("truth"), Data("answers")
    for i, (name, truth) in enumerate(zip(TRUTHS, truths, strict=True)):
        low = answers[name]
        low = replace(low, settings=replace(low.settings, threshold=0.05))
        for one in truth.boxes:
            true_data.add_ground_truth(i, low.find(one.reference), box=widths(one.box))
        for box in low.kept:
            score = box.entry.probability
            said_data.add_detection(i, box.entry.index, score, box=widths(box.box))
    run = TIDE().evaluate(true_data, said_data)
    counts = {error.short_name: count for error, count in run.count_errors().items()}
    present = {one["class"] for one in true_data.annotations}

    def mean(data: Any) -> float:
        # tidecv counts classes without ground truth as zero, pycocotools leaves them out.
        return sum(data.objs[c].get_ap() for c in present) / len(present)

    qualifier, ap = Qualifier("", None), mean(run.ap_data)
    gains = {
        error.short_name: max(mean(run.fix_errors(qualifier._make_error_func(error))) - ap, 0)
        for error in TIDE._error_types
    }
    names = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
    assert [*report.counts.values()] == [counts[name] for name in names]
    assert sum(report.counts.values()) > 100
    # Sums of the same numbers in another order.
    assert [*report.gains.values()] == pytest.approx([gains[name] for name in names], abs=1e-9)
    assert report.ap == pytest.approx(ap, abs=1e-9)


def widths(box: tuple[float, float, float, float]) -> list[float]:
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]
