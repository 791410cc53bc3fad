"""``cvx explain`` puts questions to segmenters and detectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sample_predictions import detections

from cvx_core.tasks.catalogue import get_task
from cvx_core.tasks.targets import ClassScore

if TYPE_CHECKING:
    from conftest import Cvx

LITTLE = str(Path(__file__).parent / "little.py")
DETECTOR, SEGMENTER = ["-m", f"{LITTLE}:detector"], ["-m", f"{LITTLE}:segmenter"]
GRADIENT = ["-e", "gradient-error"]


@pytest.fixture
def halves(cvx: Cvx) -> Path:
    """A photograph of 16 x 16 pixels: red on the left, green on the right."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, :8] = 250, 90, 90
    pixels[:, 8:] = 90, 230, 90
    Image.fromarray(pixels).save(cvx.folder / "halves.png")
    return cvx.folder / "halves.png"


def maps(cvx: Cvx, *arguments: str) -> tuple[set[str], dict[str, object]]:
    done = cvx.explain("halves.png", *GRADIENT, *arguments, "-r", "stub-map")
    assert done.code == 0, done.err
    [image] = done.run["images"]
    return {Path(file).stem for file in done.files if "/" in file}, image


@pytest.mark.usefixtures("halves")
def test_each_question_to_a_detector_has_a_file_of_its_own(cvx: Cvx) -> None:
    questions = ["box 0", "box 1", "box 0 left", "box 0,0,8,8 green mamba", "box 0"]
    more = ["missed 8,0,16,8 blue jay", "red fox vs green mamba", "predicted"]
    asked = [word for text in (*questions, *more) for word in ("-t", text)]
    files, image = maps(cvx, *DETECTOR, *asked)
    assert files == {
        f"gradient-error.{name}"
        for name in (
            "box-0",
            "box-1",
            "box-0-left",
            "box-0-0-8-8-green-mamba",
            "missed-8-0-16-8-blue-jay",
            "contrast-red-fox-vs-green-mamba",
            "predicted",
        )
    }
    # The left quarters are redder than the right ones are green.
    reported = image["prediction"]["reported"]  # type: ignore[index]
    assert [one["class"]["name"] for one in reported] == ["red fox"] * 2 + ["green mamba"] * 2
    assert reported[0]["box"] == pytest.approx([0, 0, 8, 8])


@pytest.mark.usefixtures("halves")
def test_a_run_says_what_a_detector_reports(cvx: Cvx) -> None:
    done = cvx.explain("halves.png", *GRADIENT, *DETECTOR, "-t", "box 0")
    assert "halves.png: box 0: red fox" in done.err
    assert done.run["model"]["task"] == "detection"


@pytest.mark.parametrize(("count", "more"), [(1, ""), (5, ""), (6, " and 1 more")])
def test_five_boxes_are_said_and_the_others_are_counted(count: int, more: str) -> None:
    boxes = [((20 * k, 0, 20 * k + 10, 10), {0: 0.8}) for k in range(count)]
    record = detections(boxes).resolve(ClassScore("dog"))[1]
    said = ", ".join(f"box {k}: cat 80.0 %" for k in range(min(count, 5)))
    assert get_task("detection").summary(record) == said + more


@pytest.mark.usefixtures("halves")
def test_questions_to_a_segmenter_and_its_truth(cvx: Cvx) -> None:
    Image.fromarray(np.full((4, 4), 1, dtype=np.uint8)).save(cvx.folder / "truth.png")
    corner = np.zeros((16, 16), dtype=np.uint8)
    corner[:4, :4] = 255
    Image.fromarray(corner).save(cvx.folder / "corner.png")
    questions = ["region corner.png red fox", "region 0,0,8,8", "pixel 3,4", "margin"]
    asked = [word for text in questions for word in ("-t", text)]
    files, image = maps(cvx, *SEGMENTER, *asked, "--label", "truth.png")
    assert files == {
        f"gradient-error.{name}"
        for name in ("region-corner-png-red-fox", "region-0-0-8-8", "pixel-3-4", "margin")
    }
    assert image["label"] == "truth.png"
    targets = {one["target"]["kind"]: one["target"] for one in image["explanations"]}  # type: ignore[attr-defined]
    # The network's 8 x 8 pixels are 2 x 2 of the photograph's; half of them are red, not green.
    assert targets["margin"]["note"] == "32 of 64 known pixels are wrong."
    assert targets["pixel"]["text"] == "why red fox at pixel 3,4?"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*DETECTOR, "-t", "box 9"], "There is no box 9: the detector reports 4."),
        ([*DETECTOR, "-t", "region 0,0,4,4"], "does not apply to detection"),
        ([*SEGMENTER, "-t", "box 0"], "does not apply to segmentation"),
        ([*SEGMENTER, "-t", "pixel 3,4 red"], "no class 'red'"),
        ([*DETECTOR, "-t", "missed 0,0,4,4 owl"], "no class 'owl'"),
        (["-t", "box 0"], "does not apply to classification"),
        ([*SEGMENTER, "-t", "error", "--label", "nowhere.png"], "nowhere.png"),
    ],
)
@pytest.mark.usefixtures("halves")
def test_a_question_that_has_no_answer_says_why(cvx: Cvx, arguments: list[str], said: str) -> None:
    done = cvx.explain("halves.png", *GRADIENT, *arguments, "-r", "stub-map")
    assert done.code != 0
    assert said in done.err
    assert not done.traced


@pytest.mark.usefixtures("halves")
def test_a_question_without_an_answer_costs_itself_alone_and_this_image_alone(cvx: Cvx) -> None:
    # Nothing is found in the dark, and in the other there are no ten boxes.
    asked = ["-t", "box 9", "-t", "box 0", "-t", "box 1"]
    done = cvx.explain("dark.png", "halves.png", *GRADIENT, *DETECTOR, *asked, "-r", "stub-map")
    assert done.code == 4
    dark, bright = done.run["images"]
    assert dark["status"] == "failed"
    assert bright["status"] == "partly"
    files = [Path(file).stem for one in bright["explanations"] for file in one["files"]]
    assert files == ["gradient-error.box-0", "gradient-error.box-1"]
    [failure] = bright["failures"]
    assert "There is no box 9" in failure["message"]


def test_classes_and_layers_of_a_detector_are_listed(cvx: Cvx) -> None:
    assert "2  blue jay" in cvx("classes", "-m", f"{LITTLE}:detector").out
    done = cvx("layers", "-m", f"{LITTLE}:detector", "--all")
    assert done.code == 0, done.err
