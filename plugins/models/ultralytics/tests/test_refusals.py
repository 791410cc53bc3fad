"""What can't be read or explained is refused, with the way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError

needs_ultralytics = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason="AGPL-3.0: whoever wants it installs it"
)


@needs_ultralytics
@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ("yolov8n-obb.yaml", "Oriented boxes"),
        ("yolo26n-pose.yaml", "Key points"),
        ("yolo26n-depth.yaml", "Depth maps"),
        ("yolov8s-worldv2.yaml", "prompts"),
        ("yoloe-v8s.yaml", "prompts"),
    ],
)
def test_other_tasks_are_refused_in_words(configuration: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        cvx.load_model(f"ultralytics:{configuration}")
    assert "file.py:FACTORY" in caught.value.hint


def test_without_the_package_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ModelError, match="can't be imported") as caught:
        cvx.load_model("ultralytics:yolov8n.yaml")
    assert "pip install" in caught.value.hint
    assert "AGPL-3.0" in caught.value.hint


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_foreign_code_is_not_run(
    tmp_path: Path, checkpoint: Callable[..., Path]
) -> None:
    saved = torch.load(checkpoint("yolov8n.yaml"), weights_only=False)
    path, marker = tmp_path / "best.pt", tmp_path / "was-run"
    torch.save({**saved, "extra": Touch(marker)}, path)
    with pytest.raises(CheckpointError) as caught:
        cvx.load_model(f"ultralytics:{path}")
    assert not marker.exists()
    assert "--trust-checkpoint" in caught.value.hint
    cvx.load_model(f"ultralytics:{path}", trust_checkpoint=True)
    assert marker.exists()


@needs_ultralytics
def test_a_published_checkpoint_that_is_not_there_is_not_downloaded() -> None:
    with pytest.raises(ModelError, match=r"File not found: yolo26n\.pt") as caught:
        cvx.load_model("ultralytics:yolo26n.pt")
    assert "YOLO('yolo26n.pt')" in caught.value.hint


def test_a_state_dict_needs_its_configuration(
    tmp_path: Path, checkpoint: Callable[..., Path]
) -> None:
    model = cvx.load_model(f"ultralytics:{checkpoint('yolov8n.yaml', 80)}")
    path = tmp_path / "weights.pt"
    torch.save(model.module.state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        cvx.load_model(f"ultralytics:{path}")
    assert "--weights" in caught.value.hint
    again = cvx.load_model("ultralytics:yolov8n.yaml", weights=path)
    assert again.digest() == model.digest()


def test_opening_images_is_left_as_it_was(checkpoint: Callable[..., Path]) -> None:
    opening = Image.open
    cvx.load_model(f"ultralytics:{checkpoint('yolov8n.yaml')}")
    assert Image.open is opening
    assert Image.open.__module__ == "PIL.Image"
