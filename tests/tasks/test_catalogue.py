"""Tasks by name, mistakes by number, and probabilities of any task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_embedded import photographs

import cvx_core as cvx
from cvx_core.plugins import discovery
from cvx_core.plugins.component_registry import Registry
from cvx_core.tasks import Task, as_target, get_task

PHOTO = photographs()[0].path


@pytest.fixture
def _a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_registry", Registry(strict=False))


def test_tasks_of_the_core_need_no_discovery_and_others_come_by_name() -> None:
    assert get_task("segmentation") is get_task("segmentation")
    task = get_task("regression:unit=years,tolerance=2")
    assert (task.name, task.unit, task.tolerance) == ("regression", "years", 2)  # type: ignore[attr-defined]
    assert get_task(task) is task
    assert str(task) == "regression"


@pytest.mark.parametrize("name", ["", "captioning", "regressio"])
def test_an_unknown_task_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(cvx.UsageError) as caught:
        get_task(name)
    assert "classification, segmentation, detection" in caught.value.hint


def test_an_unknown_parameter_of_a_task_is_refused() -> None:
    with pytest.raises(cvx.OptionError, match="no parameter 'units'"):
        cvx.VisionModel(torch.nn.Flatten(), task="regression:units=m")


@pytest.mark.usefixtures("_a_registry_of_its_own")
def test_a_registered_task_is_found() -> None:
    class Mine(type(get_task("classification"))):  # type: ignore[misc]
        name = "mine"

    cvx.register(Mine, name="mine-of-test-catalogue")
    assert isinstance(get_task("mine-of-test-catalogue"), Task)


@pytest.fixture(scope="module")
def nanodet() -> cvx.VisionModel:
    return cvx.load_model("embedded:nanodet")


def truth(model: cvx.VisionModel) -> cvx.GroundTruthBoxes:
    """The best box, and a cat that is not there."""
    best = model.predict(PHOTO)[0].kept[0]  # type: ignore[attr-defined]
    return cvx.GroundTruthBoxes.of([best.box, (5, 5, 60, 60)], [best.entry.name, "cat"])


def test_mistakes_of_a_detector_are_explained_by_number(nanodet: cvx.VisionModel) -> None:
    label = truth(nanodet)
    [prediction] = nanodet.predict(PHOTO)
    mistakes = cvx.find_mistakes(prediction, label)
    for index, mistake in enumerate(mistakes[:2]):
        target = cvx.parse_target(f"error {index}")
        seed, record = prediction.resolve(target, label)
        expected, _ = prediction.resolve(mistake.target, label)
        np.testing.assert_array_equal(seed, expected)
        assert record.asked == f"error {index}"
    for target in (cvx.Error(), cvx.Margin()):
        seed, _ = prediction.resolve(target, label)
        np.testing.assert_array_equal(seed, prediction.resolve(mistakes[0].target, label)[0])
    with pytest.raises(cvx.TargetError, match=f"the prediction has {len(mistakes)}"):
        prediction.resolve(cvx.MistakeTarget(len(mistakes)), label)
    with pytest.raises(cvx.TargetError, match="needs the ground truth"):
        prediction.resolve(cvx.MistakeTarget(0))


def test_a_correct_detector_has_a_zero_seed_and_says_so(nanodet: cvx.VisionModel) -> None:
    [prediction] = nanodet.predict(PHOTO)
    kept = prediction.kept  # type: ignore[attr-defined]
    label = cvx.GroundTruthBoxes.of([d.box for d in kept], [d.entry.name for d in kept])
    seed, record = prediction.resolve(cvx.Margin(), label)
    assert not seed.any()
    assert "correct" in record.note


def test_the_second_mistake_of_a_classifier_is_not_there() -> None:
    wrong = cvx.ClassificationPrediction(np.array([1.0, 3.0]), ["cat", "dog"])
    seed, record = wrong.resolve(cvx.parse_target("error 0"), "cat")
    np.testing.assert_array_equal(seed, [-1.0, 1.0])
    assert record.slug == "error-0"
    with pytest.raises(cvx.TargetError, match="no mistake 1"):
        wrong.resolve(cvx.parse_target("error 1"), "cat")
    assert cvx.parse_target("error prone") == cvx.ClassScore("error prone")


def test_probabilities_are_those_of_the_task(nanodet: cvx.VisionModel) -> None:
    [found] = nanodet.prepare(PHOTO)
    output = nanodet.output(found.tensor[None])
    [prediction] = nanodet.predictions(output, [found.frame])
    linked = nanodet.task.link(output)[0].double().numpy()
    size = prediction.logits.size  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        linked[:size],
        prediction.scores.reshape(-1),  # type: ignore[attr-defined]
        atol=1e-6,
    )
    np.testing.assert_allclose(linked[size:], prediction.outputs[size:], rtol=1e-6)


@pytest.mark.parametrize("name", ["rise", "occlusion"])
def test_perturbations_of_a_detector_watch_the_score_of_the_box(
    nanodet: cvx.VisionModel, name: str
) -> None:
    options = {"masks": 12} if name == "rise" else {"window": 104, "score": "probability"}
    [found] = cvx.explain(nanodet, PHOTO, cvx.get_explainer(name, **options))
    assert found.unit == "probability"
    assert 1e-3 < np.abs(found.values).max() <= 2
    if name == "rise":
        assert 0.01 < found.evidence["mean_score"] <= 1


def test_both_classes_of_a_single_channel_have_a_map() -> None:
    model = cvx.load_model("embedded:selfie-segmenter")
    for name in ("background", "person"):
        target = cvx.RegionScore(cvx.Box(0, 0, 100, 100), name)
        [found] = cvx.explain(model, PHOTO, "gradient-error", target)
        assert found.values.any()


def test_a_task_that_no_plugin_offers_is_known_while_a_model_has_it() -> None:
    class Own(type(get_task("classification"))):  # type: ignore[misc]
        name = "own-of-test-catalogue"

        def predictions(self, output, classes, frames):  # type: ignore[no-untyped-def]
            return [OwnPrediction(row.double().numpy(), classes) for row in output.scores]

    class OwnPrediction(cvx.ClassificationPrediction):
        task = "own-of-test-catalogue"

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    model = cvx.VisionModel(net, task=Own())
    [prediction] = model.predict(torch.zeros(1, 3, 2, 2))
    wrong = (prediction.predicted + 1) % 3  # type: ignore[attr-defined]
    [mistake] = cvx.find_mistakes(prediction, wrong)
    assert mistake.type == "misclassified"
    seed, _ = prediction.resolve(cvx.parse_target("error 0"), wrong)
    assert seed.any()


@pytest.mark.usefixtures("_a_registry_of_its_own")
def test_a_plugin_whose_task_fails_does_not_stop_targets_from_being_read() -> None:
    class Broken(Task):
        target_forms = {"area": "X"}  # noqa: RUF012

        def __init__(self) -> None:
            raise RuntimeError("broken")

    cvx.register(Broken, name="broken-of-test-catalogue")
    assert cvx.parse_target("tabby cat") == cvx.ClassScore("tabby cat")
    assert cvx.parse_target("area 5") == cvx.ClassScore("area 5")


@pytest.mark.usefixtures("_a_registry_of_its_own")
def test_a_target_of_a_plugins_task_is_read() -> None:
    class Area(type(get_task("classification"))):  # type: ignore[misc]
        name = "area"
        target_forms = {"area": "NUMBER"}  # noqa: RUF012

        def parse_target(self, word: str, rest: str) -> cvx.Target | None:
            return cvx.ClassScore(int(rest)) if rest.isdecimal() else None

    cvx.register(Area, name="area-of-test-catalogue")
    assert cvx.parse_target("area 7") == cvx.ClassScore(7)
    assert cvx.parse_target("area rug") == cvx.ClassScore("area rug")
    with pytest.raises(cvx.TargetError, match="area NUMBER"):
        cvx.parse_target("area 7,")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (1.5, "got float 1.5."),
        (True, "got bool True."),
        (object, "got type <class 'object'>."),
        (["tabby", "cat"], "got list."),
        ({"target": "tabby"}, "got dict."),
    ],
)
def test_what_is_no_target_is_shown_unless_it_is_a_collection(given: object, said: str) -> None:
    with pytest.raises(cvx.TargetError, match="target must be a class name") as raised:
        as_target(given)
    assert raised.value.message.endswith(said)
