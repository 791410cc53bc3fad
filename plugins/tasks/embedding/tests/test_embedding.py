"""Embeddings: similarity to a gallery, nearest neighbours, matches that are wrong or missed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cvx_embedding.gallery import gallery_model
from cvx_embedding.task import Embedding, Missing, Nearest, Neighbours
from PIL import Image
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.testing.conformance import TaskConformance


def image(k: int) -> Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(k))


PEOPLE = {
    "anna/1.jpg": image(2),
    "anna/2.jpg": image(3),
    "ben/1.jpg": image(4),
    "cleo.jpg": image(5),
}
X = image(1)[None]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 6),
    ).eval()


def model(threshold: float | None = None) -> cvx.VisionModel:
    return gallery_model(cvx.VisionModel(network()), PEOPLE, threshold)


def neighbours(*similarities: float, threshold: float | None = None) -> Neighbours:
    return Neighbours(np.array(similarities), tuple(PEOPLE), threshold)


def wrong_label() -> str:
    [found] = model().predict(X)
    return next(one for one in ("anna", "ben") if one != found.label(found.predicted))


class TestEmbedding(TaskConformance):
    component = "embedding"
    options = {"rise": {"masks": 8}, "occlusion": {"window": 8}}  # noqa: RUF012
    label_text = "ben"

    @property
    def label(self) -> str:  # type: ignore[override]
        return wrong_label()

    def model(self) -> cvx.VisionModel:
        return model()


def test_outputs_are_the_cosines_of_the_embeddings() -> None:
    net = network()
    with torch.no_grad():
        expected = nn.functional.cosine_similarity(net(X), net(torch.stack([*PEOPLE.values()])))
    [found] = model().predict(X)
    np.testing.assert_allclose(found.similarities, expected, atol=1e-6)
    assert found.entry(0).text == f"anna/1.jpg {expected[0]:.3g} cosine"


def test_a_map_is_the_gradient_of_the_cosine_to_a_second_image() -> None:
    net, second, x = network(), image(7), X.clone().requires_grad_()
    cosine = nn.functional.cosine_similarity(net(x), net(second[None]))
    [gradient] = torch.autograd.grad(cosine.sum(), x)
    one = gallery_model(cvx.VisionModel(net), {"second.jpg": second})
    [found] = cvx.explain(one, X, "input-x-gradient")
    wanted = (X * gradient).sum(1)[0].numpy()
    assert abs(found.values - wanted).max() <= 1e-5 * abs(wanted).max()
    assert (found.unit, found.target.text) == ("cosine", "why second.jpg?")


@pytest.mark.parametrize(
    ("name", "unit"), [("saliency", "cosine per unit of input"), ("rise", "cosine")]
)
def test_units_of_maps_are_those_of_the_task(name: str, unit: str) -> None:
    """RISE watches probabilities where there are any."""
    explainer = cvx.get_explainer(name, **TestEmbedding.options.get(name, {}))
    assert cvx.explain(model(), X, explainer)[0].unit == unit


def test_labels_are_folders_or_names_and_the_nearest_image_decides() -> None:
    found = neighbours(0.1, 0.6, 0.5, 0.2)
    assert [found.label(k) for k in range(4)] == ["anna", "anna", "ben", "cleo"]
    assert found.verdict("Anna") == {"label": None, "truth": "anna", "correct": True}
    assert found.verdict("anna/1.jpg")["correct"]
    assert found.verdict("ben") == {"label": None, "truth": "ben", "correct": False}
    assert found.verdict("none")["correct"] is False
    assert neighbours(0.1, 0.6, 0.5, 0.2, threshold=0.7).verdict("none")["correct"] is True
    with pytest.raises(cvx.TargetError, match="no class 'dora'"):
        found.verdict("dora")


@pytest.mark.parametrize(
    ("threshold", "label", "kind", "seed", "margin"),
    [
        (None, "ben", "wrong match", [0, 1, -1, 0], 0.1),
        (0.4, "ben", "wrong match", [0, 1, -1, 0], 0.1),
        (0.7, "ben", "missed match", [0, 0, -1, 0], 0.2),
        (0.4, "none", "false match", [0, 1, 0, 0], 0.2),
    ],
)
def test_each_mistake_has_its_seed_and_margin(
    threshold: float | None, label: str, kind: str, seed: list[float], margin: float
) -> None:
    found = neighbours(0.1, 0.6, 0.5, 0.2, threshold=threshold)
    [mistake] = cvx.find_mistakes(found, label)
    assert mistake.type == kind
    assert mistake.margin == pytest.approx(margin)
    for target in (mistake.target, cvx.Margin(label), cvx.Error(label)):
        np.testing.assert_array_equal(found.resolve(target)[0], seed)
    better = {"ben": neighbours(0.1, 0.2, 0.9, 0.2), "none": neighbours(0.1, 0.2, 0.3, 0.2)}[label]
    judged = mistake.judge(Neighbours(better.similarities, better.classes, threshold))
    assert judged.right
    assert judged.margin < 0


def test_nobody_needs_a_threshold() -> None:
    with pytest.raises(cvx.TargetError, match="without a threshold") as caught:
        cvx.find_mistakes(neighbours(0.1, 0.6, 0.5, 0.2), "none")
    assert caught.value.hint
    with pytest.raises(cvx.OptionError):
        Embedding(threshold=1.5)


def test_a_label_is_a_target_by_its_nearest_image() -> None:
    target = cvx.parse_target("nearest ben vs anna")
    assert target == Nearest("ben", "anna")
    found = neighbours(0.1, 0.6, 0.5, 0.2)
    seed, record = found.resolve(target)
    np.testing.assert_array_equal(seed, [0, -1, 1, 0])
    assert record.text == "why ben/1.jpg rather than anna/2.jpg?"
    np.testing.assert_array_equal(found.resolve(cvx.parse_target("nearest anna"))[0], [0, 1, 0, 0])
    assert found.resolve(Missing("cleo.jpg"))[1].text == "why not cleo.jpg?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(
        "import torch, cvx_core\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(),\n"
        "        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(16, 5))\n"
        "    return cvx_core.VisionModel(net, cvx_core.Preprocess(16))\n"
    )
    for name, one in PEOPLE.items():
        file = tmp_path / "people" / name.replace(".jpg", ".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((one.permute(1, 2, 0) * 255).byte().numpy()).save(file)
    (tmp_path / "people" / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_a_gallery_and_each_image_is_nearest_to_itself(folder: Path) -> None:
    loaded = cvx.load_model(
        f"embedding:{folder}/net.py:build,gallery={folder}/people,threshold=0.9"
    )
    assert loaded.classes == ("anna/1.png", "anna/2.png", "ben/1.png", "cleo.png")
    assert loaded.task == Embedding(0.9)
    for k, name in enumerate(loaded.classes):
        [found] = loaded.predict(folder / "people" / name)
        assert found.similarities[k] == pytest.approx(1.0)
    again = pickle.loads(pickle.dumps(loaded.module))
    torch.testing.assert_close(again(X), loaded.module(X))


def test_maps_mistakes_and_measures_are_had_from_a_folder(folder: Path) -> None:
    """As `cvx explain`, `cvx why` and `cvx score` do."""
    loaded = cvx.load_model(f"embedding:{folder}/net.py:build,gallery={folder}/people")
    file = folder / "people" / "anna/1.png"
    [found] = cvx.explain(loaded, file, "class-attention", label="ben")
    assert found.values.any()
    assert (found.target.truth, found.target.correct) == ("ben", False)
    assert cvx.why(loaded, file, "ben").type == "wrong match"
    assert cvx.score(loaded, [file], ["class-attention"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("embedding:net.py:build", cvx.OptionError),
        ("embedding:net.py:build,gallery=people,size=3", cvx.OptionError),
        ("embedding:net.py:build,gallery=nowhere", cvx.InputError),
    ],
)
def test_what_is_missing_is_said(
    text: str, error: type[cvx.CvxError], folder: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(error) as caught:
        cvx.load_model(text)
    assert caught.value.hint
