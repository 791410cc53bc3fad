"""Models from code of the user's own."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch

from cvx_core import VisionModel, load_model
from cvx_core.errors import CheckpointError, ModelError

CODE = """
import torch
from torch import nn
from cvx_core import VisionModel

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def plain():
    return Net()

def whole():
    return VisionModel(Net(), classes=["cat", "dog"], name="mine")

def neighbour():
    from beside import CLASSES
    return VisionModel(Net(), classes=CLASSES)

def raising():
    raise RuntimeError("no such run")

def leaving():
    raise SystemExit(3)

def nothing():
    return "a model"

net = Net()
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text('CLASSES = ["a", "b"]\n')
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("attribute", ["plain", "Net", "net", "whole"])
def test_a_factory_a_class_and_a_model_itself_all_work(code: Path, attribute: str) -> None:
    model = load_model(f"{code}:{attribute}")
    assert isinstance(model, VisionModel)
    assert model.logits(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_what_the_factory_says_about_its_model_is_kept(code: Path) -> None:
    assert load_model(f"{code}:whole").classes == ("cat", "dog")
    assert load_model(f"{code}:whole").name == "mine"
    assert load_model(f"{code}:plain").name == f"{code}:plain"


def test_a_file_may_import_its_neighbour_while_its_factory_runs(code: Path) -> None:
    before = list(sys.path)
    assert load_model(f"{code}:neighbour").classes == ("a", "b")
    assert sys.path == before


def test_a_module_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "project_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_model("project_of_mine.models:whole").classes == ("cat", "dog")
    assert sys.path == before


def test_a_model_from_a_file_survives_pickling(code: Path) -> None:
    model = load_model(f"{code}:plain")
    again = pickle.loads(pickle.dumps(model))
    assert again.digest() == model.digest()


@pytest.mark.parametrize(
    ("attribute", "message", "hint"),
    [
        ("plane", "has no 'plane'", "Did you mean 'plain'?"),
        ("", "has no ''", "with the name of a factory"),
        ("raising", "raised RuntimeError: no such run", ""),
        ("leaving", "raised SystemExit: 3", ""),
        ("nothing", "returned a str", "A factory takes no arguments"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(
    code: Path, attribute: str, message: str, hint: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(f"{code}:{attribute}")
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", ["1 / 0", "raise SystemExit", "import no_such_thing", "def ("])
def test_a_file_that_fails_on_import_is_an_error_of_the_model(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(ModelError, match="failed on import"):
        load_model(f"{tmp_path / 'bad.py'}:make")


def test_a_missing_file_and_a_missing_module_are_named() -> None:
    with pytest.raises(ModelError, match=r"File not found: nowhere\.py"):
        load_model("nowhere.py:make")
    with pytest.raises(ModelError, match=r"'no\.such' could not be imported"):
        load_model("no.such:make")


def test_weights_are_loaded_into_the_module_and_named(code: Path, tmp_path: Path) -> None:
    source = load_model(f"{code}:plain")
    torch.save(source.module.state_dict(), tmp_path / "w.pth")
    model = load_model(f"{code}:plain", weights=tmp_path / "w.pth")
    assert model.digest() == source.digest() != load_model(f"{code}:plain").digest()
    assert model.details["weights"] == "w.pth"


def test_weights_that_do_not_fit_are_refused(code: Path, tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"don't fit Net: 1 missing \(0\.bias\)"):
        load_model(f"{code}:plain", weights=tmp_path / "w.pth")
