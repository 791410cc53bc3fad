"""The places that carry the answer of segmenters and detectors, and maps over all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.explainers.pyramid import spread
from cvx_core.recording.layer_selection.selection import find_levels, open_recording
from cvx_core.tasks.detection.candidates import DetectionCandidates


class Pyramid(nn.Module):
    """Two levels, each with a head of its own; the finer one is added to the coarser."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.fine = nn.Conv2d(6, 8, 3, 2, 1)
        self.coarse = nn.Conv2d(8, 8, 3, 2, 1)
        self.tower = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.out = nn.ModuleList(nn.Conv2d(8, 3 + 4, 1) for _ in range(2))

    def forward(self, x: Tensor) -> DetectionCandidates:
        fine = F.relu(self.fine(F.relu(self.stem(x))))
        levels = [fine, F.relu(self.coarse(fine))]
        cells = [
            out(F.relu(tower(level))).flatten(2).transpose(1, 2)
            for tower, out, level in zip(self.tower, self.out, levels, strict=True)
        ]
        found = torch.cat(cells, 1)
        return DetectionCandidates(found[..., :3], found[..., 3:])


class Unet(nn.Module):
    """A bottleneck, and a connection that skips it."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, 2, 1)
        self.bottom = nn.Conv2d(4, 8, 3, 2, 1)
        self.up = nn.Conv2d(8, 4, 1)
        self.join = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped = F.relu(self.down(x))
        below = F.interpolate(self.up(F.relu(self.bottom(skipped))), scale_factor=2)
        joined = F.relu(self.join(torch.cat([skipped, below], 1)))
        return F.interpolate(self.head(joined), scale_factor=2, mode="bilinear")


class TwoBranches(nn.Module):
    """Two learned ways from one place to the answer, of which one passes another place."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 5, 3, 4, 1)
        self.inner = nn.Conv2d(5, 4, 3, padding=1)
        self.first, self.second = nn.Conv2d(4, 2, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.shared(x).relu()
        return self.first(self.inner(shared).relu()) + self.second(shared)


def seeded(build: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().eval().double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def detector() -> cvx.VisionModel:
    return cvx.VisionModel(seeded(Pyramid), task="detection")


def test_a_detector_is_read_from_the_last_learned_place_of_each_level(x: Tensor) -> None:
    model = detector()
    places = find_levels(model, x)
    assert [(p.name, p.grid) for p in places] == [("tower.0", (4, 4)), ("tower.1", (2, 2))]


def test_the_place_of_a_segmenter_is_not_its_answer(x: Tensor) -> None:
    model = cvx.VisionModel(seeded(Unet), task="segmentation")
    [place] = find_levels(model, x)
    assert place.name == "join"  # the head's output, on the same grid, is the answer itself


def test_no_level_lies_behind_another(x: Tensor) -> None:
    # The way through `inner` begins at `shared` too: both would count it twice.
    model = cvx.VisionModel(seeded(TwoBranches), task="segmentation")
    [place] = find_levels(model, x)
    assert place.name == "shared"


def test_the_levels_maps_add_up_to_the_score(x: Tensor) -> None:
    model = detector()
    for target in (cvx.ClassScore(0), cvx.ClassScore(2)):
        [made] = cvx.explain(model, x, "activation-error:rule=frozen", target)
        rows = made.evidence["levels"]
        assert made.values.shape == (4, 4)
        assert sum(row["sum"] for row in rows) == pytest.approx(made.evidence["sum"], rel=1e-6)
        # One candidate is read from one level; the other carries nothing.
        assert sorted(row["sum"] == 0 for row in rows) == [False, True]
        parts = made.evidence["sum"] + made.evidence["constant_part"]
        assert parts == pytest.approx(made.evidence["total"], rel=1e-6)
        assert all(row["residual"] < 1e-12 for row in rows if row["sum"])


class Decoder(nn.Module):
    """Queries that attend to one grid in two blocks, by keys and values of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.encoder = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
        self.queries = nn.Parameter(torch.randn(5, 8))
        self.keys = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.values = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.out = nn.Linear(8, 3 + 4)

    def forward(self, x: Tensor) -> DetectionCandidates:
        tokens = self.encoder(F.relu(self.stem(x)).flatten(2).transpose(1, 2))
        found = self.queries.expand(len(x), -1, -1)
        for key, value in zip(self.keys, self.values, strict=True):
            weights = (found @ key(tokens).transpose(1, 2)).softmax(-1)
            found = found + weights @ value(tokens)
        found = self.out(found)
        return DetectionCandidates(found[..., :3], found[..., 3:])


def test_keys_and_values_of_the_same_tokens_are_no_levels(x: Tensor) -> None:
    model = cvx.VisionModel(seeded(Decoder), task="detection")
    [place] = find_levels(model, x)
    assert (place.name, place.grid) == ("encoder", (4, 4))
    [made] = cvx.explain(model, x, "activation-error:rule=frozen", cvx.ClassScore(1))
    assert made.evidence["residual"] < 1e-12
    assert abs(made.evidence["sum"]) > 1e-3


class TwoGrids(Decoder):
    """The same queries, which attend to a coarser grid in the second block."""

    def forward(self, x: Tensor) -> DetectionCandidates:
        fine = F.relu(self.stem(x))
        found = self.queries.expand(len(x), -1, -1)
        for key, value, grid in zip(
            self.keys, self.values, (fine, F.avg_pool2d(fine, 2)), strict=True
        ):
            tokens = grid.flatten(2).transpose(1, 2)
            weights = (found @ key(tokens).transpose(1, 2)).softmax(-1)
            found = found + weights @ value(tokens)
        found = self.out(found)
        return DetectionCandidates(found[..., :3], found[..., 3:])


def test_keys_carry_nothing_where_attention_is_frozen(x: Tensor) -> None:
    model = cvx.VisionModel(seeded(TwoGrids), task="detection")
    assert {p.name for p in find_levels(model, x)} == {
        "keys.0", "values.0", "keys.1", "values.1",
    }  # fmt: skip
    [made] = cvx.explain(model, x, "activation-error:rule=frozen", cvx.ClassScore(1))
    carried = {row["layer"]: row["sum"] for row in made.evidence["levels"]}
    assert {name for name, sum_ in carried.items() if sum_} == {"values.0", "values.1"}
    assert all(row.get("residual", 0) < 1e-12 for row in made.evidence["levels"])


class Branches(nn.Module):
    """A branch for classes and one for boxes, whose sides end in a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 4, 1)
        self.classes, self.boxes = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.scores, self.sides = nn.Conv2d(6, 3, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> DetectionCandidates:
        shared = F.relu(self.stem(x))
        scores = self.scores(F.relu(self.classes(shared)))
        sides = self.sides(F.relu(self.boxes(shared))).sigmoid()
        return DetectionCandidates(scores.flatten(2).mT, sides.flatten(2).mT, relative=True)


@pytest.mark.parametrize("method", ["activation-error:rule=frozen", "score-cam", "hires-cam"])
def test_the_branch_of_the_boxes_has_no_part_in_the_score_of_a_class(
    method: str, x: Tensor
) -> None:
    """With frozen gates no gradient passes its sigmoid, and its maps would be of another score."""
    model = cvx.VisionModel(seeded(Branches), task="detection")
    assert [layer.name for layer in find_levels(model, x)] == ["classes", "boxes"]
    [made] = cvx.explain(model, x, method, cvx.ClassScore(1))
    [alone] = cvx.explain(model, x, cvx.get_explainer(method, layer="classes"), cvx.ClassScore(1))
    assert np.array_equal(made.values, alone.values)
    assert [row["layer"] for row in made.evidence["levels"]] == ["classes"]


@pytest.mark.parametrize("method", ["activation-error", "lrp-epsilon", "epsilon-plus-flat"])
def test_a_side_that_ends_in_a_sigmoid_names_methods_that_show_it(method: str, x: Tensor) -> None:
    model = cvx.VisionModel(seeded(Branches), task="detection")
    side = cvx.BoxScore(cvx.Box(*model.predict(x)[0].boxes_of(1)[3].tolist()), 1, side="left")
    [ruled] = cvx.explain(model, x, method, side)
    assert not ruled.values.any()
    assert "class-attention, grad-cam, gradient-error" in ruled.evidence["warning"]
    [plain] = cvx.explain(model, x, "gradient-error", side)
    assert plain.values.any()


def test_a_layer_that_is_named_is_asked_alone(x: Tensor) -> None:
    [made] = cvx.explain(
        detector(),
        x,
        cvx.get_explainer("activation-error", layer="tower.1", rule="frozen"),
        cvx.ClassScore(0),
    )
    assert made.values.shape == (2, 2)
    assert "levels" not in made.evidence


def test_the_parts_of_a_composition_are_asked_at_all_levels(x: Tensor) -> None:
    plain = cvx.get_explainer("class-attention")
    model = detector()
    [expected] = plain.explain(model, x, cvx.ClassScore(0))
    for composed in (cvx.mean(plain, plain), plain | (lambda values: values)):
        [made] = composed.explain(model, x, cvx.ClassScore(0))
        assert np.allclose(made.values, expected.values)


def test_the_sanity_check_is_made_at_all_levels(x: Tensor) -> None:
    [made] = cvx.explain(detector(), x, "class-attention", cvx.ClassScore(0), sanity=True)
    assert made.evidence["sanity"]["verdict"] in ("passes", "fails", "unclear")
    assert made.method == "class-attention"
    assert made.unit == "logits"


@pytest.mark.parametrize("method", ["class-attention", "location-attention", "gradient-error"])
def test_the_other_methods_answer_for_a_detector_too(method: str, x: Tensor) -> None:
    [made] = cvx.explain(detector(), x, method, cvx.ClassScore(1))
    assert made.values.shape == ((16, 16) if method == "gradient-error" else (4, 4))
    assert made.values.any()


def test_spreading_keeps_every_cells_sum() -> None:
    coarse = torch.tensor([[[8.0, -4.0], [0.0, 2.0]]])
    fine = spread(coarse, (4, 4))
    assert fine[0, :2, :2].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert fine[0, :2, 2:].tolist() == [[-1.0, -1.0], [-1.0, -1.0]]
    # On a grid that is no multiple the middle column holds half of both its neighbours' cells.
    odd = spread(coarse, (2, 3))
    assert odd[0, 0].tolist() == pytest.approx([8 * 2 / 3, 8 / 3 - 4 / 3, -4 * 2 / 3])
    assert odd.sum() == pytest.approx(float(coarse.sum()))


def test_frozen_gates_leave_the_decoding_of_boxes_alone(x: Tensor) -> None:
    class Decoded(Pyramid):
        def forward(self, x: Tensor) -> DetectionCandidates:
            found = super().forward(x)
            return DetectionCandidates(found.logits, found.boxes)

    # The sides come from a softmax over bins, in the readout and not in the network.
    def readout(found: DetectionCandidates) -> DetectionCandidates:
        return DetectionCandidates(found.logits, 8 * found.boxes.softmax(-1))

    model = cvx.VisionModel(seeded(Decoded), task="detection", readout=readout)
    [answer] = model.predict(x)
    seed = answer.box_seed(0, 0, [1.0, 0.0, 0.0, 0.0])
    from cvx_core.recording import Requirements

    with open_recording(model, x, Requirements("tower.0", gates="frozen")) as recording:
        gradient = recording.gradient(torch.from_numpy(seed)[None], "tower.0")
    assert float(gradient.abs().max()) > 1e-4
