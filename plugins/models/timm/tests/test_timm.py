"""timm's classifiers, with cvx reading the weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cvx_timm.hub
import pytest
import timm
import torch
from cvx_timm.class_names import class_names, classifies
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torchvision.models._meta import _IMAGENET_CATEGORIES

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError
from cvx_core.images.geometry import measure


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Hub:
    """A cache of the hub: a folder with a folder for each repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def __call__(
        self, repository: str, name: str, *, revision: None = None, local_files_only: bool = False
    ) -> str:
        self.asked.append(f"{repository}/{name}")
        assert local_files_only, "no network"
        path = self.folder / repository / name
        if not path.is_file():
            raise LocalEntryNotFoundError(f"no {name}")
        return str(path)

    def put(self, repository: str, name: str = "model.safetensors") -> Path:
        path = self.folder / repository / name
        path.parent.mkdir(parents=True)
        return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty cache of the hub, and no network."""
    hub = Hub(tmp_path)
    monkeypatch.setenv("CVX_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(cvx_timm.hub, "hf_hub_download", hub)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return hub


def test_all_architectures_are_listed_with_the_default_tag_first() -> None:
    listed = {entry.name: entry for entry in cvx.list_models("timm")}
    assert sorted(listed) == sorted(timm.list_models())
    assert listed["resnet50"].weights[0] == "a1_in1k"
    assert "tv_in1k" in listed["resnet50"].weights


@pytest.mark.parametrize("asked", ["resnet18", "resnet18.a1_in1k"])
def test_cached_weights_are_loaded_with_their_transforms_and_names(hub: Hub, asked: str) -> None:
    source = timm.create_model("resnet18.a1_in1k")
    save_file(source.state_dict(), hub.put("timm/resnet18.a1_in1k"))
    model = cvx.load_model(f"timm:{asked}")
    assert torch.equal(model.module.get_parameter("fc.weight"), source.get_parameter("fc.weight"))
    assert model.name == "timm:resnet18.a1_in1k"
    assert model.details["weights"] == "a1_in1k"
    assert model.details["licence"] == "apache-2.0"
    config = resolve_model_data_config(source)
    assert repr(model.preprocess) == repr(create_transform(**config, is_training=False))
    assert not model.module.training


def test_a_tag_is_taken_from_the_weights_too(hub: Hub) -> None:
    source = timm.create_model("resnet18.tv_in1k")
    save_file(source.state_dict(), hub.put("timm/resnet18.tv_in1k"))
    model = cvx.load_model("timm:resnet18", weights="tv_in1k")
    assert model.name == "timm:resnet18.tv_in1k"


def test_published_tensors_that_timm_reshapes_are_reshaped(hub: Hub) -> None:
    # ConvNeXt as its authors published it has other names; timm translates them.
    source = timm.create_model("convnext_atto.d2_in1k")
    theirs = {
        name.replace("stem.", "downsample_layers.0.")
        .replace("head.norm.", "norm.")
        .replace("head.fc.", "head."): tensor
        for name, tensor in source.state_dict().items()
        if "stages" not in name
    }
    for name, tensor in source.state_dict().items():
        if "stages" in name:
            name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
            stage = name.split(".")[1]
            name = name.replace(f"stages.{stage}.downsample", f"downsample_layers.{stage}")
            theirs[name.replace(".blocks", "")] = tensor
    torch.save({"model": theirs}, hub.put("timm/convnext_atto.d2_in1k", "pytorch_model.bin"))
    model = cvx.load_model("timm:convnext_atto.d2_in1k")
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.module.state_dict()[name], tensor), name


def test_the_network_does_not_hold_its_weights_twice(hub: Hub) -> None:
    source = timm.create_model("resnet18.a1_in1k")
    save_file(source.state_dict(), hub.put("timm/resnet18.a1_in1k"))
    model = cvx.load_model("timm:resnet18")
    config: Any = model.module.pretrained_cfg
    assert config.get("state_dict") is None


def test_weights_that_are_not_here_are_refused_at_once_with_the_way_out(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="CVX_OFFLINE is set") as caught:
        cvx.load_model("timm:resnet50")
    assert "timm/resnet50.a1_in1k (model.safetensors)" in caught.value.message
    assert "--weights random" in caught.value.hint
    assert hub.asked == [
        "timm/resnet50.a1_in1k/model.safetensors",
        "timm/resnet50.a1_in1k/pytorch_model.bin",
    ]


def test_weights_on_a_plain_server_are_refused_with_their_address(hub: Hub) -> None:
    with pytest.raises(CheckpointError) as caught:
        cvx.load_model("timm:gcvit_tiny.in1k")
    assert "https://" in caught.value.hint
    assert str(hub.folder / "torch" / "checkpoints") in caught.value.hint


def test_a_network_without_published_weights_says_so(hub: Hub) -> None:
    name = next(one.name for one in cvx.list_models("timm") if not one.weights)
    with pytest.raises(CheckpointError, match="publishes no weights"):
        cvx.load_model(f"timm:{name}")


def test_a_cached_file_that_would_run_code_does_not_run(hub: Hub, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = hub.put("timm/resnet18.a1_in1k", "pytorch_model.bin")
    torch.save({"fc.weight": Trap(mark)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        cvx.load_model("timm:resnet18")
    assert not mark.exists()


def test_cached_weights_of_another_network_are_refused(hub: Hub) -> None:
    save_file({"fc.weight": torch.zeros(3)}, hub.put("timm/resnet18.a1_in1k"))
    with pytest.raises(CheckpointError, match=r"don't fit resnet18\.a1_in1k"):
        cvx.load_model("timm:resnet18")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_the_measured_extent_is_a_centred_square_inside_the_photograph(name: str) -> None:
    model = cvx.load_model(f"timm:{name}", weights="random")
    assert model.preprocess is not None
    extent = measure(model.preprocess, (640, 427)).extent
    assert extent is not None
    left, top, right, bottom = extent
    assert left >= 0
    assert top >= 0
    # To an input pixel, which is about 427 / 240 pixels of the photograph.
    assert (left + right, top + bottom) == pytest.approx((640, 427), abs=4)
    assert right - left == pytest.approx(bottom - top, abs=4)


def test_random_weights_and_a_file_of_ones_own_say_what_they_are(tmp_path: Path) -> None:
    one, two = (cvx.load_model("timm:resnet18", weights="random") for _ in range(2))
    assert one.digest() == two.digest()
    assert (one.name, one.details["weights"]) == ("timm:resnet18", "random")
    torch.save(one.module.state_dict(), tmp_path / "mine.pth")
    mine = cvx.load_model("timm:resnet18", weights=tmp_path / "mine.pth")
    assert mine.digest() == one.digest()
    assert (mine.name, mine.details["weights"]) == ("timm:resnet18", "mine.pth")


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "convnext_base.clip_laion2b"])
def test_a_network_without_a_classifier_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="returns features, not class scores"):
        cvx.load_model(f"timm:{name}")


def test_a_clip_tower_that_was_trained_to_classify_is_a_classifier() -> None:
    config = timm.get_pretrained_cfg("vit_base_patch16_clip_224.openai_ft_in1k")
    assert config is not None
    assert classifies(config)


def test_the_class_names_agree_with_torchvisions_but_for_two_that_come_twice() -> None:
    config = timm.get_pretrained_cfg("resnet18")
    assert config is not None
    names = class_names(config)
    assert names is not None
    differ = [(a, b) for a, b in zip(names, _IMAGENET_CATEGORIES, strict=True) if a != b]
    assert {theirs for _, theirs in differ} <= {
        "crane bird", "crane", "maillot", "maillot tank suit"
    }  # fmt: skip


def test_weights_with_other_classes_have_no_names() -> None:
    config = timm.get_pretrained_cfg("mvitv2_base_cls.fb_inw21k")
    assert config is not None
    assert class_names(config) is None


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(ModelError, match="Did you mean 'resnet50'"):
        cvx.load_model("timm:resnet-50")
    with pytest.raises(CheckpointError, match="Did you mean 'a1_in1k'"):
        cvx.load_model("timm:resnet50", weights="a1_in1")
    with pytest.raises(CheckpointError, match="already names its weights"):
        cvx.load_model("timm:resnet50.a1_in1k", weights="tv_in1k")


def test_a_bare_network_brings_its_own_preprocessing_and_class_names() -> None:
    net = timm.create_model("resnet18", pretrained=False).eval()
    found = cvx.wrap(net)
    assert found.module is net
    assert (found.task.name, found.name) == ("classification", "ResNet")
    transform = create_transform(**resolve_model_data_config(net), is_training=False)
    assert str(found.preprocess) == str(transform)
    assert found.classes == tuple(class_names(timm.get_pretrained_cfg("resnet18")) or ())


def test_classes_of_a_replaced_classifier_are_not_guessed_and_features_are_left_alone() -> None:
    own = cvx.wrap(timm.create_model("resnet18", pretrained=False, num_classes=5))
    assert own.classes is None
    assert own.preprocess is not None
    features = cvx.wrap(timm.create_model("resnet18", pretrained=False, num_classes=0))
    assert features.preprocess is None
