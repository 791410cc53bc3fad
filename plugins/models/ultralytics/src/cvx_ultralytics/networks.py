"""Networks of ultralytics, from its checkpoints and configurations."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from cvx_core import CheckpointError, ModelError, VisionModel, install_command
from cvx_core.models import seeded
from cvx_core.plugins import describe_error
from cvx_ultralytics.heads import (
    class_logits,
    forget_grid,
    pixel_logits,
    rtdetr_candidates,
    yolo_candidates,
)
from cvx_ultralytics.preprocessing import Letterbox

_KINDS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "classify": "ClassificationModel",
    "semantic": "SemanticSegmentationModel",
}
"""Networks of each task that cvx reads, in ``ultralytics.nn.tasks``."""

_OTHER = {
    "obb": "Oriented boxes aren't supported: a box of cvx has upright sides",
    "pose": "Key points aren't supported",
    "depth": "Depth maps of ultralytics aren't supported",
}

_SIZE = 640


@contextmanager
def library() -> Iterator[Any]:
    """Import ``ultralytics.nn.tasks``, silent and without looking for a network.

    Raises
    ------
    ModelError
        If it is not installed, or too old.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    # On import ultralytics replaces PIL's `open` by one that installs packages for odd files.
    as_found = Image.open
    try:
        from ultralytics.nn import tasks
        from ultralytics.utils import LOGGER
    except ImportError as error:
        raise ModelError(
            f"The package ultralytics can't be imported: {describe_error(error)}",
            f"{install_command('ultralytics>=8.4')}\n"
            "It is licensed under AGPL-3.0; its makers also sell another license.",
        ) from error
    finally:
        Image.open = as_found
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield tasks
    finally:
        LOGGER.setLevel(level)


def from_checkpoint(path: Path, *, trust: bool) -> Any:
    """Return the network in a ``.pt`` file of ultralytics, its averaged weights if there are some.

    Only ultralytics' own types are unpickled, unless the file is trusted.

    Raises
    ------
    CheckpointError
        If it can't be read, or holds other types.
    """
    with library() as tasks:
        try:
            saved, _ = tasks.torch_safe_load(str(path), safe_only=not trust)
        # Boundary to untrusted files: a damaged one fails anywhere.
        except Exception as error:
            raise CheckpointError(
                f"{path} could not be read as a checkpoint of ultralytics: {describe_error(error)}",
                "If you made the file yourself: --trust-checkpoint (trust_checkpoint=True). A "
                "state dict needs its configuration: -m ultralytics:FILE.yaml --weights FILE.",
            ) from error
        network: Any = saved.get("ema") or saved.get("model")
        if not hasattr(network, "model"):
            raise CheckpointError(
                f"{path} contains no network of ultralytics.",
                "A state dict needs its configuration: -m ultralytics:FILE.yaml --weights FILE.",
            )
        size = (saved.get("train_args") or {}).get("imgsz")
        network.args = {"imgsz": size} if size else {}
        for part in network.modules():
            # As ultralytics does for checkpoints that are older than the attribute.
            if isinstance(part, nn.Upsample) and not hasattr(part, "recompute_scale_factor"):
                part.recompute_scale_factor = None
        network = network.float().eval()
        forget_grid(network.model[-1])
    return network


def from_configuration(name: str) -> nn.Module:
    """Return the network of a ``.yaml`` file, one's own or ultralytics', with random weights.

    Raises
    ------
    ModelError
        If there is no such file, or its network is not supported.
    """
    with library() as tasks:
        try:
            found = tasks.yaml_model_load(name)
        # Boundary to the user's file and the library's search for it.
        except Exception as error:
            raise ModelError(
                f"Unknown configuration: {name!r}: {describe_error(error)}",
                "Give a file, or one of 'cvx models ultralytics'.",
            ) from error
        return build(found, tasks)


def build(configuration: dict[str, Any], tasks: Any) -> nn.Module:
    """Return the network of a configuration with seeded random weights."""
    task = tasks.guess_model_task(configuration) or "detect"  # of RT-DETR's decoder
    head = str(configuration.get("head", [[""]])[-1][-2:-1])
    _check(task, head)
    kind = "RTDETRDetectionModel" if "RTDETR" in head else _KINDS[task]
    channels = configuration.get("channels", configuration.get("ch", 3))
    try:
        with seeded():
            module: nn.Module = getattr(tasks, kind)(configuration, ch=channels, verbose=False)
    # Boundary to the user's file: inconsistent numbers fail anywhere.
    except Exception as error:
        raise ModelError(
            f"The configuration can't be built: {describe_error(error)}",
            "Try it with ultralytics: YOLO('FILE.yaml').",
        ) from error
    return module.eval()


def rebuilt(network: Any) -> Any:
    """Return a network of the same shape with seeded random weights."""
    with library() as tasks:
        fresh: Any = build(network.yaml, tasks)
    fresh.args, fresh.names = network.args, network.names
    return fresh


def as_vision_model(network: Any, name: str = "", **details: Any) -> VisionModel:
    """Return a network of ultralytics as a `VisionModel`.

    Parameters
    ----------
    network
        Such as ``YOLO("best.pt").model``. It is used as it is.
    name
        For the provenance.
    details
        More provenance.

    Raises
    ------
    ModelError
        If its task is not supported.
    """
    with library() as tasks:
        head = network.model[-1]
        task = tasks.guess_model_task(network) or "detect"
        _check(task, type(head).__name__)
        arguments = _reading(network, head, task)
    return VisionModel(
        network, classes=_names(network), name=name or type(network).__name__, details=details,
        **arguments,
    )  # fmt: skip


def _reading(network: Any, head: Any, task: str) -> dict[str, Any]:
    """Return task, readout and preprocess of a network."""
    channels = network.yaml.get("channels", network.yaml.get("ch", 3))
    size = (getattr(network, "args", None) or {}).get("imgsz") or _SIZE
    if task == "classify":
        from ultralytics.data.augment import classify_transforms

        own = getattr(network, "transforms", None)
        prepared = own or classify_transforms(size if size != _SIZE else 224)
        return {"preprocess": prepared, "readout": class_logits, "activation": "none"}
    stride = max(32, int(max(network.stride)))
    letterbox = partial(Letterbox, -(-size // stride) * stride, stride, channels)
    if task == "semantic":
        return {"task": "segmentation", "readout": pixel_logits, "preprocess": letterbox()}
    if type(head).__name__ == "RTDETRDecoder":
        prepared = letterbox(stretch=True)
        return {"task": "detection", "readout": rtdetr_candidates, "preprocess": prepared}
    readout = partial(yolo_candidates, head=head)
    return {"task": "detection", "readout": readout, "preprocess": letterbox()}


def _check(task: str, head: str) -> None:
    """Refuse networks whose outputs cvx can't explain."""
    if "World" in head or "YOLOE" in head:
        raise ModelError(
            "Open-vocabulary networks of ultralytics (YOLO-World, YOLOE) aren't supported: their "
            "classes are prompts.",
            "Wrap one with fixed prompts in a module of yours: -m file.py:FACTORY.",
        )
    if task not in _KINDS:
        raise ModelError(
            f"{_OTHER.get(task, f'Unsupported task of ultralytics: {task!r}')}.",
            "Supported: " + ", ".join(_KINDS) + ". For others, wrap the network in a module of "
            "yours that returns scores: -m file.py:FACTORY.",
        )


def _names(network: Any) -> list[str] | None:
    """Return the class names, or None where they are ultralytics' placeholders."""
    names = [str(network.names[index]) for index in sorted(network.names)]
    return None if names == [str(index) for index in range(len(names))] else names
