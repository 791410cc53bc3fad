"""What segmenters and detectors return, in the form that questions are put to."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import (
    DetectionCandidates,
    DetectionPrediction,
    MaskRegion,
    ModelError,
    RegionScore,
    SegmentationPrediction,
    VisionModel,
)
from cvx_core.tasks.catalogue import get_task
from cvx_core.tasks.detection.output import detection
from cvx_core.tasks.segmentation.output import segmentation


class Says(nn.Module):
    """Returns what it is told to, made of the mean of each quarter of its input."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Any:
        means = nn.functional.adaptive_avg_pool2d(x, 2) * self.scale
        return self.output(means)


def detr(means: Tensor) -> dict[str, Tensor]:
    logits = torch.cat([means.flatten(2), means.flatten(2)[:, :1]], dim=1).transpose(1, 2)
    boxes = torch.tensor([0.5, 0.25, 0.2, 0.1]).expand(len(means), 4, 4)
    return {"logits": logits, "pred_boxes": boxes}


def test_centre_and_size_become_corners_and_the_last_class_means_nothing() -> None:
    found = detection(detr(torch.zeros(1, 3, 2, 2)), ["a", "b", "c"])
    np.testing.assert_allclose(found.boxes[0, 0], [0.4, 0.2, 0.6, 0.3], atol=1e-7)
    assert (found.exclusive, found.background, found.relative, found.single) == (
        True,
        3,
        True,
        True,
    )
    assert found.overlap is None


def test_candidates_are_taken_as_they_are_and_other_things_refused_with_the_way_out() -> None:
    given = DetectionCandidates(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
    assert detection(given) is given
    with pytest.raises(ModelError, match=r"in the list(.|\n)*readout=.*DetectionCandidates"):
        detection([{"boxes": torch.zeros(1, 4)}])


def test_a_single_channel_is_the_logit_of_the_second_class() -> None:
    channel = torch.tensor([[[[2.0, -1.0]]]])
    found = segmentation(channel, ["background", "person"])
    assert found.shape == (1, 2, 1, 2)
    expected = torch.tensor([2.0, -1.0]).sigmoid()
    torch.testing.assert_close(found.softmax(1)[0, 1, 0], expected)
    with pytest.raises(ModelError, match=r"one channel(.|\n)*both classes(.|\n)*task='depth'"):
        segmentation(channel)


def test_a_column_a_class_is_a_sigmoid_and_one_more_a_softmax() -> None:
    output = detr(torch.zeros(1, 3, 2, 2))  # four columns
    for classes in (4, ["a", "b", "c", "d"]):
        found = detection(output, classes)
        assert (found.exclusive, found.background, found.single) == (False, None, False)
    for classes in (3, ["a", "b", "c"], ["a", "b", "c", "N/A"], ["a", "b", "c", "no object"]):
        found = detection(output, classes)
        assert (found.exclusive, found.background, found.single) == (True, 3, True)
    for classes in (None, 2, ["a"]):
        with pytest.raises(ModelError, match=r"\(1, 4, 4\)(.|\n)*4 names(.|\n)*3 if"):
            detection(output, classes)


@pytest.mark.parametrize(
    "names", [("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks")]
)
def test_classified_masks_become_scores_of_pixels(names: tuple[str, str]) -> None:
    # Two queries, two classes and nothing; 1 x 2 pixels. Worked out with probabilities:
    # query 0 says class 0 with 3/4, query 1 says class 1 with 1/2 and nothing with 1/2.
    classes = torch.tensor([[[3.0, 1e-9, 1.0], [1e-9, 1.0, 1.0]]]).log()
    masks = torch.tensor([[[[0.8, 0.5]], [[0.2, 0.9]]]]).logit()
    found = segmentation(dict(zip(names, (classes, masks), strict=True)))
    expected = [[0.75 * 0.8, 0.75 * 0.5], [0.5 * 0.2, 0.5 * 0.9]]
    np.testing.assert_allclose(found[0, :, 0].exp(), expected, atol=1e-6)


def test_what_is_no_segmenters_output_is_refused_with_the_way_out() -> None:
    for output, said in ((torch.zeros(1, 3), r"\(1, 3\)"), ({"boxes": 1}, "got dict")):
        with pytest.raises(ModelError, match=rf"{said}(.|\n)*readout="):
            segmentation(output)


@pytest.mark.parametrize(
    ("task", "readout", "said"),
    [
        (
            "segmentation",
            lambda m: m.mean((2, 3)),
            r"gave \(1, 3\) .* segmentation(.|\n)*\(B, C, h",
        ),
        ("classification", lambda m: m, r"gave \(1, 3, 2, 2\) .* classification"),
        ("detection", lambda m: m, r"gave \(1, 3, 2, 2\) .* detection(.|\n)*Candidates"),
        ("segmentation", lambda m: detection(detr(m), 3), "gave candidates .* segmentation"),
    ],
)
def test_a_readout_that_gives_another_tasks_scores_is_refused(
    task: str, readout: Any, said: str
) -> None:
    model = VisionModel(Says(lambda means: means), task=task, readout=readout)
    with pytest.raises(ModelError, match=said):
        model.logits(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "c", "none of them"]])
def test_the_class_that_means_nothing_may_be_named_or_not(names: list[str]) -> None:
    model = VisionModel(Says(detr), classes=names, task="detection")
    [answer] = model.predict(torch.rand(1, 3, 4, 4))
    assert answer.count == 4
    assert answer.name(3) == (names[3] if len(names) == 4 else "nothing")


def test_other_names_must_be_complete() -> None:
    for task, output, said in (
        ("detection", detr, "number of classes is 2"),
        ("segmentation", lambda means: means, "outputs and 2 class names"),
    ):
        model = VisionModel(Says(output), classes=["a", "b"], task=task)
        with pytest.raises(ModelError, match=said):
            model.predict(torch.rand(1, 3, 4, 4) - 0.5)


def test_all_outputs_are_one_vector_in_the_order_of_the_answers() -> None:
    batch = torch.rand(2, 3, 4, 4) - 0.5
    for output, task, kind in (
        (detr, "detection", DetectionPrediction),
        (lambda means: means, "segmentation", SegmentationPrediction),
    ):
        model = VisionModel(Says(output), classes=["a", "b", "c"], task=task)
        flat = model.logits(batch)
        for row, answer in zip(flat, model.predict(batch), strict=True):
            assert isinstance(answer, kind)
            np.testing.assert_array_equal(row.numpy(), answer.outputs.astype(np.float32))


class Heads(NamedTuple):
    main: Tensor
    other: Tensor


@dataclass
class Answer:
    main: Tensor | None
    other: Tensor


def forms(one: Tensor, other: Tensor) -> list[tuple[Any, str, str]]:
    """Return forms of an output of two tensors, and how the second is written."""
    return [
        ((one, other), "o[0]", "o[1]"),
        ([one, other], "o[0]", "o[1]"),
        (Heads(one, other), "o.main", "o.other"),
        (Answer(one, other), "o.main", "o.other"),
        ({"main": one, "other": other}, "o['main']", "o['other']"),
    ]


SHAPES = {"classification": (2, 5), "segmentation": (2, 5, 4, 4), "regression": (2, 1)}


@pytest.mark.parametrize("task", SHAPES)
def test_two_tensors_of_one_shape_are_refused_with_both_readings(task: str) -> None:
    one, other = torch.randn(2, *SHAPES[task], generator=torch.Generator().manual_seed(0))
    for output, first, second in forms(one, other):
        with pytest.raises(ModelError) as found:
            get_task(task).readout(output)
        assert f"lambda o: {first}, or lambda o: {second}." in str(found.value)
        assert str(tuple(SHAPES[task])) in str(found.value)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_what_the_others_are_probabilities_of_is_read(task: str) -> None:
    logits = torch.randn(SHAPES[task], generator=torch.Generator().manual_seed(0))
    for other in (logits.softmax(1), logits.log_softmax(1), logits.sigmoid(), logits.clone()):
        for given in ((logits, other), (other, logits)):
            for output, *_ in forms(*given):
                assert torch.equal(get_task(task).readout(output), logits)


@pytest.mark.parametrize("task", SHAPES)
def test_logits_and_out_are_names_of_the_main_head(task: str) -> None:
    one, other = torch.randn(2, *SHAPES[task], generator=torch.Generator().manual_seed(0))
    for name, aside in (("logits", "aux_logits"), ("out", "aux"), ("logits", "scores")):
        output = {aside: other, name: one}
        assert get_task(task).readout(output) is one
        assert get_task(task).readout(namedtuple("Out", output)(**output)) is one
    with pytest.raises(ModelError, match=r"o\['scores'\], or lambda o: o\['prediction'\]"):
        get_task(task).readout({"prediction": one, "scores": other})
    assert get_task(task).readout(Answer(None, one)) is one


@pytest.mark.parametrize("shape", [(2, 1, 5), (2, 5, 1, 1), (2, 1, 5, 1), (2, 1, 1, 5)])
def test_axes_of_one_are_left_out(shape: tuple[int, ...]) -> None:
    logits = torch.randn(2, 5)
    assert torch.equal(get_task("classification").readout(logits.view(shape)), logits)
    with pytest.raises(ModelError, match=r"\(2, 3, 5\)"):
        get_task("classification").readout(torch.zeros(2, 3, 5))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "end",
    [lambda z: z.T, lambda z: z.squeeze(), lambda z: z[0] if len(z) == 1 else z],
    ids=["classes first", "squeezed", "one image without batch"],
)
def test_the_batch_is_found_wherever_it_is(end: Any, count: int) -> None:
    def logits(means: Tensor) -> Tensor:
        return means.flatten(1)[:, :count]

    batch = torch.rand(count, 3, 4, 4) - 0.5  # as many images as classes
    for task in ("classification", "regression"):
        if count == 1 and task == "classification":
            continue
        model = VisionModel(Says(lambda means: end(logits(means))), task=task)
        plain = VisionModel(Says(logits), task=task)
        assert torch.equal(model.logits(batch), plain.logits(batch))
        pairs = zip(*(cvx.explain(m, batch, "saliency", 0) for m in (model, plain)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one.values, other.values)
            said = "last axis" in one.provenance["output_note"]
            assert said == (count > 1 and model._batch.is_last is True)


def test_a_segmenter_may_leave_out_the_batch_of_one_image() -> None:
    model = VisionModel(Says(lambda means: (means - 1).squeeze(0)), task="segmentation")
    assert model.output(torch.rand(1, 3, 4, 4)).scores.shape == (1, 3, 2, 2)


def test_outputs_of_another_number_of_images_are_refused() -> None:
    model = VisionModel(Says(lambda means: means.flatten(1).repeat(2, 1)))
    for count in (1, 2, 12):
        with pytest.raises(
            ModelError, match=rf"is {2 * count} for a batch of {count}(.|\n)*readout="
        ):
            model.logits(torch.rand(count, 3, 4, 4) - 0.5)


def test_a_mask_of_another_size_is_stretched_over_the_photograph() -> None:
    model = VisionModel(
        Says(lambda means: means - 1), preprocess=cvx.Preprocess(8), task="segmentation"
    )
    photo = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    mask = np.array([[False, True], [False, False]])
    target = RegionScore(MaskRegion(mask), 0)
    [one] = cvx.explain(model, photo, "gradient-error:steps=1", target=target)
    assert one.target.note == "Logits are summed over 1 of 4 pixels."
    # That output pixel is the mean of its quarter of the photograph.
    heat = one.heatmap()
    assert np.abs(heat[:18, 22:]).max() > 0
    assert not heat[22:].any()


def test_suppression_runs_once_for_all_methods_and_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    answers = VisionModel.predictions

    def counted(self: VisionModel, *given: Any) -> Any:
        nonlocal asked
        asked += 1
        return answers(self, *given)

    monkeypatch.setattr(VisionModel, "predictions", counted)
    model = VisionModel(Says(detr), cvx.Preprocess(8), classes=["a", "b", "c"], task="detection")
    photo = np.full((8, 8, 3), 250, dtype=np.uint8)
    questions = [[cvx.ClassScore(0), cvx.ClassScore(1), cvx.Contrast(0, 1)]]
    methods = [
        cvx.get_explainer("gradient-error"),
        cvx.get_explainer("gradient-error", output="sensitivity"),
    ]
    assert len(cvx.explain(model, photo, methods, target=questions)) == 6
    assert asked == 1
