"""Networks of ultralytics whose random weights find something, and their checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

os.environ.setdefault("YOLO_OFFLINE", "true")

from cvx_embedded.photographs import photographs
from cvx_ultralytics.networks import library
from cvx_ultralytics.preprocessing import Letterbox

SIZE = 192
FOUND = 30


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Return a wide image, a high one to be enlarged, and one with sides that no stride divides."""
    image = Image.open(photographs()[0].path).convert("RGB")
    return [image, image.crop((0, 0, 101, 170)), image.crop((10, 10, 243, 140))]


@pytest.fixture(scope="session")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, images: list[Image.Image]
) -> Callable[..., Path]:
    """Return a checkpoint as ultralytics' training writes it, made once for each configuration."""
    if find_spec("ultralytics") is None:
        pytest.skip("AGPL-3.0: whoever wants it installs it")
    with library() as tasks:
        pass

    made: dict[tuple[str, int, int], Path] = {}

    def make(configuration: str, classes: int = 7, shape: int = 0) -> Path:
        if (configuration, classes, shape) not in made:
            path = tmp_path_factory.mktemp("yolo") / "best.pt"
            found = tasks.yaml_model_load(configuration)
            task = tasks.guess_model_task(found) or "detect"
            kind = {
                "segment": tasks.SegmentationModel,
                "classify": tasks.ClassificationModel,
                "semantic": tasks.SemanticSegmentationModel,
            }.get(task, tasks.DetectionModel)
            kind = tasks.RTDETRDetectionModel if "rtdetr" in configuration else kind
            torch.manual_seed(0)
            network = kind(configuration, nc=classes, verbose=False)
            network.names = {index: f"thing {index}" for index in range(classes)}
            _enliven(network, task, images[shape])
            torch.save(
                {
                    "epoch": -1,
                    "model": None,
                    "ema": network,
                    "train_args": {"task": task, "imgsz": SIZE, "data": "mine.yaml"},
                },
                path,
            )
            made[configuration, classes, shape] = path
        return made[configuration, classes, shape]

    def _enliven(network: Any, task: str, image: Image.Image) -> None:
        """Let activations keep their scale, and about `FOUND` boxes pass the threshold."""
        pixels = Letterbox(SIZE)(image)[None]
        network.eval()
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        for part in norms:
            part.train()
            part.momentum, part.kept = 1.0, part.momentum
        with torch.no_grad():
            network(pixels)
        for part in norms:
            part.momentum = part.kept
            del part.kept
        network.eval()
        head = network.model[-1]
        if task not in ("detect", "segment") or not hasattr(head, "cv3"):
            return
        for name, spread in (("cv2", 0.02), ("cv3", 0.03)):
            for branch in (name, f"one2one_{name}"):
                for last in [part[-1] for part in getattr(head, branch, None) or ()]:
                    nn.init.normal_(last.weight, std=spread)
                    last.bias.data.fill_(2.0 if name == "cv2" else 0.0)
        with torch.no_grad():
            raw = network(pixels)[1]
        for branch, scores in (
            ("cv3", raw.get("one2many", raw)["scores"]),
            ("one2one_cv3", raw.get("one2one", raw)["scores"]),
        ):
            least = scores.flatten().topk(FOUND).values[-1]
            for part in getattr(head, branch, None) or ():
                part[-1].bias.data.fill_(-float(least) - 1.0)

    return make
