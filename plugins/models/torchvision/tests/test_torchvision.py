"""torchvision's classifiers, built without letting torchvision read the weights."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cvx_torchvision.builder import build, rename
from cvx_torchvision.source import _published
from cvx_torchvision.weights import file_name
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError
from cvx_core.images.geometry import measure

NAMES = models.list_models(module=models)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of PyTorch, and no network."""
    monkeypatch.setenv("CVX_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


# RegNets compute their widths with tensors, which have no values on the device "meta"; the large
# ones differ from the small in these numbers alone.
LARGE = [name for name in NAMES if name.startswith("regnet") and not name.endswith("00mf")]


@pytest.mark.parametrize("name", sorted({*NAMES} - {*LARGE}))
def test_every_network_is_the_one_that_torchvision_builds_for_the_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shapes alone will do: the largest has 633 million parameters.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        for weights in _published(name):
            ours = build(name, "classification", weights, random=False)
            state = ours.state_dict()
            monkeypatch.setattr(WeightsEnum, "get_state_dict", partial(_give, state))
            theirs = models.get_model(name, weights=weights)  # loads strictly
            assert vars(theirs).get("transform_input") == vars(ours).get("transform_input")
            # GoogLeNet's auxiliary heads are dropped after training, and not counted.
            main = [p.numel() for n, p in ours.named_parameters() if not n.startswith("aux")]
            assert sum(main) == weights.meta["num_params"]


def _give(state: dict[str, torch.Tensor], *_: Any, **__: Any) -> dict[str, torch.Tensor]:
    return state


def test_all_classifiers_are_listed_with_their_best_weights_first() -> None:
    listed = {entry.name: entry for entry in cvx.list_models("torchvision")}
    assert sorted(n for n, e in listed.items() if e.task == "classification") == sorted(NAMES)
    assert listed["resnet50"].weights == ("IMAGENET1K_V2", "IMAGENET1K_V1")
    assert "25.6 M parameters, 80.9 %" in listed["resnet50"].summary


def save(cache: Path, weights: WeightsEnum, module: nn.Module) -> Path:
    path = cache / file_name(weights)
    torch.save(module.state_dict(), path)
    return path


def test_cached_weights_are_loaded_with_their_transforms_and_names(cache: Path) -> None:
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    source = models.resnet18()
    save(cache, weights, source)
    for asked in (None, "IMAGENET1K_V1", "DEFAULT"):
        model = cvx.load_model("torchvision:resnet18", weights=asked)
        assert torch.equal(model.module.get_parameter("fc.weight"), source.fc.weight)
        assert model.details["weights"] == "IMAGENET1K_V1"
        assert list(model.classes or ()) == weights.meta["categories"]
        assert not model.module.training


def test_named_weights_bring_their_own_size(cache: Path) -> None:
    v1, v2 = models.ResNet50_Weights.IMAGENET1K_V1, models.ResNet50_Weights.IMAGENET1K_V2
    source = models.resnet50()
    for weights in (v1, v2):
        save(cache, weights, source)
    covered = {}
    for name in ("IMAGENET1K_V1", "IMAGENET1K_V2"):
        model = cvx.load_model("torchvision:resnet50", weights=name)
        assert model.preprocess is not None
        extent = measure(model.preprocess, (512, 512)).extent
        assert extent is not None
        covered[name] = extent[2] - extent[0]
    # Shorter side to 256 or 232, then the central 224.
    assert covered["IMAGENET1K_V1"] == pytest.approx(512 * 224 / 256, abs=3)
    assert covered["IMAGENET1K_V2"] == pytest.approx(512 * 224 / 232, abs=3)


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "inception_v3", "densenet121"])
def test_the_measured_extent_is_a_centred_square_inside_the_photograph(name: str) -> None:
    model = cvx.load_model(f"torchvision:{name}", weights="random")
    assert model.preprocess is not None
    extent = measure(model.preprocess, (640, 427)).extent
    assert extent is not None
    left, top, right, bottom = extent
    assert left >= 0
    assert top >= 0
    # To an input pixel: its side is 427 / 256 pixels of the photograph or more.
    assert (left + right, top + bottom) == pytest.approx((640, 427), abs=4)
    assert right - left == pytest.approx(bottom - top, abs=4)


def test_weights_that_are_not_here_are_refused_at_once_with_the_way_out(cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        cvx.load_model("torchvision:resnet50")
    assert "resnet50-11ad3fa6.pth" in caught.value.message
    assert str(cache / "resnet50-11ad3fa6.pth") in caught.value.hint
    assert "--weights random" in caught.value.hint
    assert list(cache.iterdir()) == []


def test_a_cached_file_that_would_run_code_does_not_run(cache: Path, tmp_path: Path) -> None:
    weights, mark = models.ResNet18_Weights.DEFAULT, tmp_path / "mark"
    torch.save({"fc.weight": Trap(mark)}, cache / file_name(weights))
    with pytest.raises(CheckpointError, match="could run code"):
        cvx.load_model("torchvision:resnet18")
    assert not mark.exists()


def test_a_file_named_like_published_weights_counts_as_these(tmp_path: Path) -> None:
    v1 = models.ResNet50_Weights.IMAGENET1K_V1
    path = tmp_path / file_name(v1)
    torch.save(models.resnet50().state_dict(), path)
    model = cvx.load_model("torchvision:resnet50", weights=path)
    assert repr(model.preprocess) == repr(v1.transforms())
    assert model.details["weights"] == path.name


def test_old_names_of_densenet_are_read() -> None:
    weights = models.DenseNet121_Weights.DEFAULT
    module = build("densenet121", "classification", weights, random=False)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in module.state_dict().items()
    }
    assert rename(module, old).keys() == module.state_dict().keys()


def test_random_weights_are_the_same_each_time() -> None:
    one, two = (cvx.load_model("torchvision:resnet18", weights="random") for _ in range(2))
    assert one.digest() == two.digest()
    assert one.details["weights"] == "random"


def test_weights_of_a_mere_backbone_are_not_offered() -> None:
    with pytest.raises(CheckpointError, match="weights for vgg16: 'IMAGENET1K_FEATURES'"):
        cvx.load_model("torchvision:vgg16", weights="IMAGENET1K_FEATURES")


def test_a_name_that_no_weights_have_leads_to_random_ones_and_to_a_file() -> None:
    with pytest.raises(
        CheckpointError, match=r"Available: .*IMAGENET1K_V1.*'random' or a file path"
    ):
        cvx.load_model("torchvision:resnet18", weights="none")


def test_a_network_that_asks_for_the_version_of_its_weights_loads(tmp_path: Path) -> None:
    source = cvx.load_model("torchvision:mnasnet0_5", weights="random")
    save_file(source.module.state_dict(), tmp_path / "w.safetensors")
    model = cvx.load_model("torchvision:mnasnet0_5", weights=tmp_path / "w.safetensors")
    assert model.digest() == source.digest()


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(ModelError, match="Did you mean 'resnet50'"):
        cvx.load_model("torchvision:resnet-50")
    with pytest.raises(CheckpointError, match="Did you mean 'IMAGENET1K_V2'"):
        cvx.load_model("torchvision:resnet50", weights="IMAGENET1K_V3")
    with pytest.raises(ModelError):
        cvx.load_model("torchvision:raft_large")
