"""Reading weights: only tensors come in, and what doesn't fit is named."""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cvx_core.errors import CheckpointError, CvxWarning
from cvx_core.models.checkpoints import (
    fit_weights,
    load_weights,
    names_a_file,
    read_checkpoint,
)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, zipped: bool
) -> None:
    path, mark = tmp_path / "trap.pth", tmp_path / "mark"
    content = {"state_dict": network().state_dict(), "extra": Trap(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"could run code.*system") as caught:
        read_checkpoint(path)
    assert "--trust-checkpoint" in caught.value.hint
    assert not mark.exists()


def test_a_plain_pickle_that_would_run_code_does_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "trap.pth", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not mark.exists()


def test_a_trusted_checkpoint_may_hold_more_than_tensors(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"args": Namespace(epochs=3), "model": {"w": torch.ones(2)}}, path)
    with pytest.raises(CheckpointError, match=r"asks for argparse\.Namespace"):
        read_checkpoint(path)
    assert read_checkpoint(path, trust=True)["w"].tolist() == [1, 1]


def test_safetensors_and_pth_load_the_same(tmp_path: Path) -> None:
    source = network()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        load_weights(fresh, tmp_path / name)
        assert torch.equal(fresh.get_parameter("0.weight"), source.get_parameter("0.weight"))


def test_the_ending_of_a_safetensors_file_may_be_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "WEIGHTS.SAFETENSORS"
    save_file({"weight": torch.ones(2)}, path)
    assert names_a_file(str(path))
    assert torch.equal(read_checkpoint(path)["weight"], torch.ones(2))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_a_state_dict_is_found_inside_a_training_checkpoint(tmp_path: Path, key: str) -> None:
    path = tmp_path / "w.pth"
    torch.save({"epoch": 7, key: network().state_dict()}, path)
    assert set(read_checkpoint(path)) == set(network().state_dict())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module."])
def test_the_prefixes_of_wrappers_are_dropped(tmp_path: Path, prefix: str) -> None:
    source, path = network(), tmp_path / "w.pth"
    torch.save({prefix + name: t for name, t in source.state_dict().items()}, path)
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_weights(fresh, path)
    assert torch.equal(fresh.get_parameter("0.weight"), source.get_parameter("0.weight"))


def test_a_network_with_a_child_called_module_keeps_its_names(tmp_path: Path) -> None:
    source, path = nn.Sequential(), tmp_path / "w.pth"
    source.add_module("module", nn.Linear(2, 2))
    torch.save(source.state_dict(), path)
    load_weights(source, path)


def test_an_old_checkpoint_may_lack_the_count_of_batches(tmp_path: Path) -> None:
    state, path = network().state_dict(), tmp_path / "w.pth"
    del state["1.num_batches_tracked"]
    torch.save(state, path)
    load_weights(network(), path)


def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(
        {"0.weight": torch.zeros(4, 3, 5, 5), "0.bias": torch.zeros(4), "odd": torch.zeros(1)}, path
    )
    module = network()
    with pytest.raises(CheckpointError) as caught:
        load_weights(module, path)
    assert "4 missing (1.bias, 1.running_mean, 1.running_var, ...)" in caught.value.message
    assert "1 not in the model (odd)" in caught.value.message
    assert "0.weight is (4, 3, 5, 5) and should be (4, 3, 3, 3)" in caught.value.message
    assert torch.equal(module.get_parameter("0.bias"), network().get_parameter("0.bias"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_an_error_of_ours(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(network().state_dict(), path)
    else:
        save_file(network().state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_a_photograph_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "photo.pth"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(CheckpointError, match="Not a PyTorch checkpoint"):
        read_checkpoint(path)


def test_a_file_without_tensors_and_a_missing_file_say_so(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="File not found"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("weights", "file"),
    [
        ("IMAGENET1K_V2", False),
        ("a1_in1k", False),
        ("random", False),
        ("w.pth", True),
        ("w.safetensors", True),
        ("runs/best", True),
        (Path("best"), True),
    ],
)
def test_a_name_of_weights_is_told_from_a_file(weights: str | Path, file: bool) -> None:
    assert names_a_file(weights) is file


def _little() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("prefix", ["model.", "net.backbone.", "student.", "module.model."])
def test_what_a_prefix_does_not_cover_is_left_out_and_named(prefix: str) -> None:
    source, target = _little(), _little()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    state["loss.weight"] = torch.ones(2)
    with pytest.warns(UserWarning, match=r"ignored: loss\.weight"):
        fit_weights(target, state, "a.ckpt")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name])


def test_of_averaged_and_plain_weights_the_plain_are_taken_and_it_is_said() -> None:
    source, target = _little(), _little()
    state = {f"ema_model.{name}": tensor * 0 for name, tensor in source.state_dict().items()}
    state |= {f"model.{name}": tensor for name, tensor in source.state_dict().items()}
    with pytest.warns(UserWarning, match=r"Loaded the weights model\.\* of a\.ckpt; ignored"):
        fit_weights(target, state, "a.ckpt")
    assert torch.equal(target[0].weight, source[0].weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: (w * 100).to(torch.int8),
        lambda w: w.to(torch.complex64),
        lambda w: w.to_sparse(),
        lambda w: w > 0,
    ],
)
def test_numbers_that_lose_something_are_refused(change: Any) -> None:
    state = _little().state_dict()
    state["0.weight"] = change(state["0.weight"])
    with pytest.raises(CheckpointError, match=r"lose something \(0\.weight is \S+ for float32"):
        fit_weights(_little(), state, "a.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_loaded(dtype: torch.dtype) -> None:
    state = _little().half().state_dict()
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    fit_weights(_little(), state, "a.pth")


@pytest.mark.parametrize("key", ["params", "network", "generator", "ema"])
def test_a_state_dict_under_any_name_is_found(key: str, tmp_path: Path) -> None:
    expected, found = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = torch.optim.SGD(expected.parameters()).state_dict()
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "optimizer": optimizer, key: expected.state_dict()}, path)
    load_weights(found, path)
    assert torch.equal(found.weight, expected.weight)


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("state_dict", "state_dict_ema"),
        ("params", "params_ema"),
        ("model", "ema"),
        ("net_g", "net_g_averaged"),
    ],
)
def test_of_plain_and_averaged_dictionaries_the_plain_is_taken_and_it_is_said(
    plain: str, averaged: str, tmp_path: Path
) -> None:
    expected, other, found = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / "checkpoint.pth"
    torch.save({averaged: other.state_dict(), plain: expected.state_dict()}, path)
    with pytest.warns(CvxWarning, match=rf"under '{plain}' .*, not {averaged}"):
        load_weights(found, path)
    assert torch.equal(found.weight, expected.weight)


@pytest.mark.parametrize("prefix", ["model.", "net.backbone.", "_forward_module.student."])
def test_the_prefix_of_a_lightning_module_is_dropped_though_counters_are_missing(
    prefix: str, tmp_path: Path
) -> None:
    expected, found = (nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)) for _ in range(2))
    state = {
        f"{prefix}{name}": tensor
        for name, tensor in expected.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(2)}}, path)
    with pytest.warns(CvxWarning, match=r"loss\.weight"):
        load_weights(found, path)
    assert torch.equal(found[0].weight, expected[0].weight)
