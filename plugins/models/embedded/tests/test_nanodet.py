"""NanoDet answers as the reference implementation does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from cvx_embedded.cells import Cells, candidates
from cvx_embedded.nanodet import PREPROCESS, NanoDet, class_names, nanodet
from PIL import Image
from torchvision.ops import batched_nms

from cvx_core import DetectionPrediction, Frame
from cvx_core.images.geometry import measure

DATA = Path(__file__).parent / "data/nanodet"
PHOTOGRAPHS = {"horse": (640, 415), "chelsea": (451, 300), "wormsCathedral": (555, 640)}
"""With their sizes before they were resized."""

SAID = {
    "horse": ["horse", "horse", "horse", "dog"],  # the dog is a foal
    "chelsea": ["person", "cat"],  # there is no person
    "wormsCathedral": ["person", "bench", "person"],
}


@pytest.fixture(scope="module")
def network() -> NanoDet:
    return nanodet()


@pytest.fixture(scope="module")
def reference() -> dict[str, npt.NDArray[np.float32]]:
    with np.load(DATA / "reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def answers(network: NanoDet) -> dict[str, Cells]:
    with torch.no_grad():
        return {
            name: network(PREPROCESS(Image.open(DATA / f"{name}.png"))[None])
            for name in PHOTOGRAPHS
        }


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_raw_outputs_are_the_references(
    name: str, answers: dict[str, Cells], reference: dict[str, npt.NDArray[np.float32]]
) -> None:
    cells = answers[name]
    assert cells.class_logits.shape == (1, 3549, 80)
    assert cells.side_logits.shape == (1, 3549, 4, 11)
    raw = torch.cat([cells.class_logits, cells.side_logits.flatten(2)], dim=-1)[0, ::21]
    # float32 differs by 1e-5 from the reference's float64.
    np.testing.assert_allclose(raw, reference[f"{name}_raw"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "size"), PHOTOGRAPHS.items())
def test_detections_are_the_references(
    name: str,
    size: tuple[int, int],
    answers: dict[str, Cells],
    reference: dict[str, npt.NDArray[np.float32]],
) -> None:
    extent = measure(PREPROCESS, size).extent
    assert extent is not None
    found = candidates(answers[name])
    frame = Frame(extent, (PREPROCESS.side, PREPROCESS.side))
    kept = DetectionPrediction.of(found, 0, class_names(), frame).kept
    assert [one.entry.name for one in kept] == SAID[name]
    assert [one.entry.index for one in kept] == reference[f"{name}_classes"].tolist()
    assert [one.candidate for one in kept] == reference[f"{name}_candidates"].tolist()
    scores = [one.entry.probability for one in kept]
    np.testing.assert_allclose(scores, reference[f"{name}_scores"], atol=1e-5, rtol=0)
    # Raw outputs that differ by 1e-5 move a side by that share of 10 strides of 32 pixels, which
    # are up to 1.5 pixels of the photograph each.
    boxes = [one.box for one in kept]
    np.testing.assert_allclose(boxes, reference[f"{name}_boxes_photo"], atol=5e-3, rtol=0)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("threshold", "overlap"), [(0.4, 0.5), (0.05, 0.6), (0.02, 0.3)])
def test_suppression_is_torchvisions(
    name: str, threshold: float, overlap: float, answers: dict[str, Cells]
) -> None:
    settings = replace(
        candidates(answers[name]), threshold=threshold, overlap=overlap, most=10_000, single=False
    )
    frame = Frame((0, 0, PREPROCESS.side, PREPROCESS.side), (PREPROCESS.side, PREPROCESS.side))
    kept = DetectionPrediction.of(settings, 0, None, frame).kept
    scores = settings.logits[0].double().sigmoid()
    rows, columns = torch.where(scores > threshold)
    left = batched_nms(settings.boxes[0].double()[rows], scores[rows, columns], columns, overlap)
    expected = [(int(rows[k]), int(columns[k])) for k in left]
    assert len(expected) > 1
    assert [(one.candidate, one.entry.index) for one in kept] == expected


def test_channels_are_blue_green_red_in_the_authors_scale() -> None:
    blue = PREPROCESS(Image.new("RGB", (20, 10), (0, 0, 255)))
    assert blue.shape == (3, 416, 416)
    assert blue[:, 5, 5].tolist() == pytest.approx(
        [(255 - 103.53) / 57.375, -116.28 / 57.12, -123.675 / 58.395], abs=1e-6
    )


@pytest.mark.parametrize(("level", "first"), [("level3", 0), ("level4", 2704), ("level5", 3380)])
def test_a_candidate_comes_from_the_head_of_its_level_and_from_the_pixels(
    network: NanoDet, level: str, first: int
) -> None:
    inputs = torch.zeros(1, 3, 416, 416, requires_grad=True)
    biases = {name: head.out.bias for name, head in network.head.items()}
    logit = network(inputs).class_logits[0, first, 17]
    pixels, *heads = torch.autograd.grad(logit, [inputs, *biases.values()])
    assert pixels.abs().sum() > 0
    blamed = {name: g for name, g in zip(biases, heads, strict=True) if g.any()}
    assert list(blamed) == [level]
    assert blamed[level].nonzero().tolist() == [[17]]


def test_other_sizes_have_as_many_candidates_as_cells(network: NanoDet) -> None:
    with torch.no_grad():
        cells = network(torch.zeros(2, 3, 320, 100))
    # 100 pixels are halved, upwards: 50, 25, 13, 7, 4.
    assert cells.levels == ((8, 40, 13), (16, 20, 7), (32, 10, 4))
    assert cells.class_logits.shape == (2, 40 * 13 + 20 * 7 + 10 * 4, 80)
    assert cells.boxes().shape == (2, 700, 4)


def test_classes_are_cocos() -> None:
    names = class_names()
    assert len(set(names)) == 80
    assert [names[i] for i in (0, 15, 16, 17, 79)] == [
        "person",
        "cat",
        "dog",
        "horse",
        "toothbrush",
    ]
