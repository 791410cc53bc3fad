"""What people type first: targets, labels, images, networks and layers in usual forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import cvx_core as cvx
from cvx_core import Explanation, InputError, ModelError, OptionError, UsageError
from cvx_core.testing import models


def model() -> cvx.VisionModel:
    found = models.quadrants()
    found.classes = ("north west", "north east", "south west", "south east")
    found.preprocess = cvx.Preprocess(crop=16, mean=(0, 0, 0), std=(1, 1, 1))
    return found


def image(quarter: int) -> Image.Image:
    """A picture with one bright quarter, which the model predicts."""
    pixels = np.full((16, 16, 3), 10, np.uint8)
    top, left = 8 * (quarter // 2), 8 * (quarter % 2)
    pixels[top : top + 8, left : left + 8] = 200 + quarter
    return Image.fromarray(pixels)


def asked(found: Any) -> list[str]:
    return [one.target.text for one in found]


BOTH = ["what supports south west?", "what supports north east?"]


@pytest.mark.parametrize(
    "target",
    [
        [2, 1],
        (2, "north east"),
        ["south west", cvx.ClassScore(1)],
        torch.tensor([2, 1]),
        torch.tensor([[2], [1]]),
        np.array([2, 1]),
        [torch.tensor(2), np.int64(1)],
        {"image 1": 1, "image 0": "South West"},
    ],
)
def test_targets_of_a_batch_come_in_many_forms(target: Any) -> None:
    assert asked(cvx.explain(model(), [image(0), image(1)], "saliency", target)) == BOTH


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (2, "what supports south west?"),
        ("south west", "what supports south west?"),
        (torch.tensor(2), "what supports south west?"),
        ("south west vs north east", "why south west rather than north east?"),
        ("predicted", "why north west?"),
    ],
)
def test_one_target_is_that_of_all_images(target: Any, text: str) -> None:
    assert asked(cvx.explain(model(), [image(0), image(0)], "saliency", target)) == [text] * 2


def test_a_row_of_a_tensor_holds_several_targets_of_an_image() -> None:
    best = torch.tensor([[0, 3], [1, 2]])
    found = cvx.explain(model(), [image(0), image(1)], "saliency", best)
    assert [one.target.classes[0].index for one in found] == [0, 3, 1, 2]


@pytest.mark.parametrize(
    "label",
    [
        [2, None],
        [np.int64(2), None],
        {"image 0": "south west"},
        [torch.tensor(2), None],
    ],
)
def test_labels_of_a_batch_come_in_many_forms(label: Any) -> None:
    first, second = cvx.explain(model(), [image(0), image(1)], "saliency", label=label)
    assert first.target.label is not None
    assert first.target.label.name == "south west"
    assert second.target.label is None


@pytest.mark.parametrize("label", [torch.tensor([2, 3]), np.array([2, 3])])
def test_a_tensor_has_a_label_for_each_image(label: Any) -> None:
    found = cvx.explain(model(), [image(0), image(1)], "saliency", label=label)
    assert [one.target.label.index for one in found if one.target.label] == [2, 3]


def test_a_tensor_of_masks_has_one_for_each_image() -> None:
    net = nn.Conv2d(3, 2, 1)
    segmenter = cvx.VisionModel(net, task="segmentation")
    batch, masks = torch.rand(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.long)
    found = cvx.explain(segmenter, batch, "saliency", "error", masks)
    assert [one.target.kind for one in found] == ["error", "error"]


def test_boxes_are_taken_as_torchvisions_data_sets_give_them() -> None:
    task = cvx.get_task("detection")
    given = {"boxes": torch.tensor([[1.0, 2, 5, 6]]), "labels": torch.tensor([3])}
    [found, none] = task.labels_per_image([given, None], 2)
    assert found == cvx.GroundTruthBoxes.of([[1, 2, 5, 6]], [3])
    assert none is None


@pytest.mark.parametrize("name", ["Saliency", "grad_cam", "GradCAM", "Grad-CAM++", "GRAD-CAM"])
def test_a_name_is_found_in_any_spelling(name: str) -> None:
    made = cvx.get_explainer(name)
    assert made.name in ("saliency", "grad-cam", "grad-cam-plus-plus")


def test_parameters_are_written_as_on_the_command_line_or_as_arguments() -> None:
    net = model()
    written = cvx.explain(net, image(0), "grad-cam:layer=mix")
    given = cvx.explain(net, image(0), "grad-cam", layer="mix")
    module = cvx.explain(net, image(0), "grad-cam", layer=net.module.mix)
    several = cvx.explain(net, image(0), "grad-cam", layers=[net.module.mix, net.module.relu])
    held = cvx.get_explainer("grad-cam", layer=net.module.mix).explain(net, image(0))
    for other in (given, module, held):
        np.testing.assert_array_equal(written[0].values, other[0].values)
        assert other[0].provenance == written[0].provenance
    assert module[0].provenance["parameters"]["layer"] == "mix"
    assert list(several[0].provenance["parameters"]["layers"]) == ["mix", "relu"]
    with pytest.raises(UsageError, match="layer ReLU is not part of Quadrants"):
        cvx.explain(net, image(0), "grad-cam", layer=nn.ReLU())
    with pytest.raises(OptionError, match="no parameter 'depth'"):
        cvx.explain(net, image(0), "grad-cam", depth=3)
    with pytest.raises(UsageError, match="'layer': no explainer is given by name"):
        cvx.explain(net, image(0), cvx.get_explainer("grad-cam"), layer="mix")


def test_a_bare_network_takes_prepared_tensors_and_is_left_as_it_was() -> None:
    net = models.quadrants().module.train()
    batch = torch.rand(2, 3, 16, 16)
    found = cvx.explain(net, batch, "grad-cam", 3)
    assert asked(found) == ["what supports 3?"] * 2
    assert net.training
    held = cvx.get_explainer("grad-cam").explain(net, batch, 3)
    np.testing.assert_array_equal(found[1].values, held[1].values)


def test_what_a_bare_network_lacks_is_told_with_the_line_to_write(tmp_path: Path) -> None:
    image(0).save(tmp_path / "a.png")
    with pytest.raises(ModelError) as caught:
        cvx.explain(models.quadrants().module, tmp_path / "a.png")
    assert "VisionModel(module, preprocess=Preprocess(crop=224, resize=256))" in caught.value.hint
    with pytest.raises(ModelError, match=r"must be a torch\.nn\.Module or a VisionModel, got str"):
        cvx.explain("resnet18", tmp_path / "a.png")  # type: ignore[arg-type]


def test_published_weights_bring_preprocessing_and_class_names() -> None:
    class Published:
        meta = {"categories": ["a", "b", "c", "d"]}  # noqa: RUF012

        def transforms(self) -> cvx.Preprocess:
            return cvx.Preprocess(crop=8)

        def __str__(self) -> str:
            return "Published.V1"

    found = cvx.wrap(models.quadrants().module, weights=Published())
    assert found.classes == ("a", "b", "c", "d")
    assert found.details["weights"] == "Published.V1"
    assert cvx.explain(found, image(1), "saliency")[0].target.predicted.name == "b"
    assert cvx.wrap(found) is found
    with pytest.raises(UsageError, match="weights must have transforms"):
        cvx.wrap(models.quadrants().module, weights="resnet.pth")


def folder(tmp_path: Path) -> Path:
    for quarter, name in enumerate(("north west", "north east")):
        (tmp_path / name).mkdir()
        for number in range(2):
            picture = image(quarter)
            picture.putpixel((0, 0), (number, 0, 0))
            picture.save(tmp_path / name / f"{quarter}{number}.png")
    return tmp_path


def test_a_folder_gives_its_images_and_their_labels(tmp_path: Path) -> None:
    found = cvx.explain(model(), folder(tmp_path), "saliency", label="folder")
    assert [one.name for one in found] == ["10.png", "11.png", "00.png", "01.png"]
    assert all(one.target.correct for one in found)


def test_a_csv_gives_the_labels_of_files(tmp_path: Path) -> None:
    folder(tmp_path)
    rows = ["path;label", "north west/00.png;south east", "11.png;2", "north east/10.png;"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    some = [tmp_path / "north west/00.png", tmp_path / "north east/11.png"]
    for label in (tmp_path / "labels.csv", str(tmp_path / "labels.csv")):
        found = cvx.explain(model(), some, "saliency", label=label)
        assert [one.target.label.index for one in found if one.target.label] == [3, 2]
    [unknown] = cvx.explain(model(), tmp_path / "north east/10.png", "saliency", label=label)
    assert unknown.target.label is None
    with pytest.raises(InputError, match=r"labels\.csv has no row for .*01\.png"):
        cvx.explain(model(), tmp_path / "north west/01.png", "saliency", label=label)


def test_a_data_loader_brings_batches_and_labels() -> None:
    inputs = torch.stack([one.tensor for one in model().prepare([image(k) for k in range(3)])])
    loader = DataLoader(TensorDataset(inputs, torch.tensor([0, 3, 2])), batch_size=2)
    found = cvx.explain(model(), loader, "saliency")
    assert [one.name for one in found] == ["tensor 0", "tensor 1", "tensor 2"]
    assert [one.target.correct for one in found] == [True, False, True]
    given = cvx.explain(model(), loader, "saliency", [[0, 1], 2, "margin"], [1, 1, 1])
    assert [one.name for one in given] == ["tensor 0", "tensor 0", "tensor 1", "tensor 2"]
    assert {one.target.label.index for one in given if one.target.label} == {1}
    with pytest.raises(UsageError, match="3 images and 2 targets"):
        cvx.explain(model(), loader, "saliency", [0, 1])
    items: Any = [{"pixel_values": inputs[k], "labels": k} for k in range(3)]
    named = cvx.explain(model(), DataLoader(items, batch_size=2), "saliency")
    assert [one.target.correct for one in named] == [True] * 3


class Pictures(Dataset[Any]):
    """Pairs of image and number of the class, in an order that is not the model's."""

    classes = ("south east", "north west")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, k: int) -> tuple[Image.Image, int]:
        return image((3, 0)[k]), k


def test_labels_of_a_data_set_are_taken_by_the_names_of_its_classes() -> None:
    found = cvx.explain(model(), Pictures(), "saliency")
    names = [one.target.label.name for one in found if one.target.label]
    assert names == ["south east", "north west"]
    assert all(one.target.correct for one in found)
    part: Any = Subset(Pictures(), [1])
    assert cvx.explain(model(), part, "saliency")[0].target.label == found[1].target.label


def test_iter_explain_reads_images_when_it_comes_to_them() -> None:
    read: list[int] = []

    def pictures() -> Iterator[Image.Image]:
        for k in range(6):
            read.append(k)
            yield image(k % 4)

    made = cvx.iter_explain(model(), pictures(), "saliency", batch=2)
    assert read == []
    first = next(made)
    assert read == [0, 1]
    rest = list(made)
    assert [one.name for one in [first, *rest]] == [f"image {k}" for k in range(6)]
    whole = cvx.explain(model(), [image(k % 4) for k in range(6)], "saliency")
    assert [one.values.tolist() for one in [first, *rest]] == [o.values.tolist() for o in whole]


def test_iter_explain_gives_out_what_belongs_to_each_image() -> None:
    pictures = [image(k) for k in range(3)]
    target = {"image 2": 0}
    found = list(cvx.iter_explain(model(), pictures, "saliency", target, [1, 2, 3], batch=2))
    assert asked(found)[2] == "what supports north west?"
    assert [one.target.label.index for one in found if one.target.label] == [1, 2, 3]
    with pytest.raises(UsageError, match="for images that were not given, such as 'image 9'"):
        list(cvx.iter_explain(model(), pictures, "saliency", {"image 9": 1}, batch=2))
    with pytest.raises(UsageError, match="batch must be at least 1, got 0"):
        cvx.iter_explain(model(), pictures, batch=0)


def test_a_progress_bar_counts_the_maps(capsys: pytest.CaptureFixture[str]) -> None:
    explainers = ["saliency", "grad-cam"]
    found = cvx.explain(model(), [image(0), image(1)], explainers, [1, [2, 3]], progress=True)
    assert f"{len(found)}/6" in capsys.readouterr().err
    cvx.explain(model(), image(0), explainers)
    assert capsys.readouterr().err == ""


def test_progress_names_the_package_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvx_core.api.optional_module", lambda name: None)
    with pytest.raises(UsageError, match="pip install tqdm"):
        cvx.explain(model(), image(0), progress=True)


def test_the_first_call_of_other_libraries_works_word_for_word() -> None:
    batch: Tensor = torch.rand(2, 3, 16, 16)
    net = model()
    maps = cvx.explain(net, batch, "grad-cam", target=2, layer=net.module.mix)
    assert isinstance(maps, list)
    assert isinstance(maps[0], Explanation)
    assert maps[0].heatmap(fill=0).shape == (16, 16)
    assert maps[0].overlay().size == (16, 16)


@pytest.mark.parametrize(
    ("name", "meant"), [("targets", "target"), ("taget", "target"), ("labels", "label")]
)
def test_a_misspelled_argument_suggests_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(cvx.OptionError, match=f"no parameter '{name}'") as caught:
        cvx.explain(models.convolutional(), models.inputs(1), "grad-cam", **{name: 1})
    assert caught.value.hint.startswith(f"Did you mean '{meant}'?")
    with pytest.raises(cvx.OptionError) as caught:
        cvx.explain(models.convolutional(), models.inputs(1), "grad-cam", layr="relu")
    assert "layer" in caught.value.hint
