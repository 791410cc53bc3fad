"""Runs of `cvx explain` that end early: ``--resume`` ends with the files and values of a whole run.

Each write of a run is a moment at which it may end: by an interruption, a full disk or a kill.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cvx_core as cvx
from cvx_core import Artifact, OutputError, UsageError
from cvx_core.cli import RunOptions, explain_to_folder
from cvx_core.cli.explain import finished_images
from cvx_core.cli.kit.signals import Ended
from cvx_core.explanations import output_folder
from cvx_core.testing import models

WRITES = range(14)
"""Writes of a whole run: run.json; two maps and the record of each image; the page; run.json."""


class Sums(cvx.Renderer):
    """The sum of a map as text."""

    suffix = ".txt"

    def draw(self, explanations: Any) -> Artifact:
        return Artifact(self.suffix, "text/plain", f"{explanations[0].values.sum():.9g}".encode())


@pytest.fixture(autouse=True)
def _renderer() -> None:
    cvx.register(Sums, name="sums", replace=True)


@pytest.fixture
def model() -> cvx.VisionModel:
    net = models.convolutional()
    return cvx.VisionModel(net.module, preprocess=cvx.Preprocess(crop=16), name="little")


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    noise = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for path in paths:
        Image.fromarray(noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return paths


def run(model: cvx.VisionModel, images: list[Path], folder: Path, **more: Any) -> Any:
    options = RunOptions(
        model=model, explainers=["grad-cam", "saliency"], renderers=["npz", "sums"], **more
    )
    return explain_to_folder(images, folder, options)


def content(folder: Path) -> dict[str, Any]:
    """Return the files of a run without what depends on the clock."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.suffix == ".txt":
            found[name] = path.read_text()
        elif path.suffix == ".npz":
            found[name] = [
                (one.values.tolist(), one.image.tolist(), one.target.to_dict(), one.provenance)
                for one in cvx.load_explanations(path)
            ]
        elif path.name == "run.json":
            document = json.loads(path.read_text())
            images = [(i["file"], i["status"], i["prediction"]) for i in document["images"]]
            found[name] = document["status"], document["files"], images
        else:
            found[name] = None
    return found


def stopped_at(write: int, stop: Callable[[], None]) -> Callable[..., Path]:
    """Return `write_atomic` that does something else at one write and all later ones."""
    genuine, count = output_folder.write_atomic, iter(range(10**6))

    def write_or_stop(path: Path, data: bytes, *, overwrite: bool = False) -> Path:
        if next(count) >= write:
            stop()
        return genuine(path, data, overwrite=overwrite)

    return write_or_stop


def full() -> None:
    raise OutputError("No space left on device.")


def interrupted() -> None:
    raise KeyboardInterrupt


def ended() -> None:
    raise Ended(signal.SIGTERM)


@pytest.mark.parametrize("stop", [full, interrupted, ended])
def test_a_run_that_ended_at_any_write_is_resumed_to_the_same_files_and_values(
    model: cvx.VisionModel, photographs: list[Path], tmp_path: Path, stop: Callable[[], None]
) -> None:
    run(model, photographs, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for write in WRITES if stop is full else WRITES[::3]:
        folder = tmp_path / f"{write}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(output_folder, "write_atomic", stopped_at(write, stop))
            with pytest.raises((OutputError, KeyboardInterrupt)):
                run(model, photographs, folder)
        finished = run(model, photographs, folder, resume=True)
        assert finished.exit_code == 0
        assert content(folder) == whole


@pytest.mark.slow
def test_a_run_that_was_killed_at_any_write_is_resumed(
    model: cvx.VisionModel, photographs: list[Path], tmp_path: Path
) -> None:
    def killed(folder: Path, write: int) -> None:
        kill = stopped_at(write, lambda: os.kill(os.getpid(), signal.SIGKILL))
        output_folder.write_atomic = kill
        run(model, photographs, folder)

    run(model, photographs, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for write in WRITES:
        folder = tmp_path / f"{write}"
        # A fork has everything imported.
        process = multiprocessing.get_context("fork").Process(target=killed, args=(folder, write))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        if write:
            (folder / ".cvx-abc.tmp").write_bytes(b"half a file")
        run(model, photographs, folder, resume=True)
        assert content(folder) == whole


def test_finished_images_are_not_explained_again(
    model: cvx.VisionModel, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_folder, "write_atomic", stopped_at(8, interrupted))
        with pytest.raises(KeyboardInterrupt):
            run(model, photographs, tmp_path / "run")
    read: list[str] = []
    genuine = finished_images.FinishedImages.add

    def add(self: Any, entry: Any, explanations: Any) -> None:
        read.append(entry.request.path.name)
        genuine(self, entry, explanations)

    monkeypatch.setattr(finished_images.FinishedImages, "add", add)
    run(model, photographs, tmp_path / "run", resume=True)
    assert read == ["c.png", "d.png"]


def test_a_finished_run_is_returned_as_it_is(
    model: cvx.VisionModel, photographs: list[Path], tmp_path: Path
) -> None:
    first = run(model, photographs, tmp_path / "run")
    again = run(model, photographs, tmp_path / "run", resume=True)
    assert again.document == json.loads((tmp_path / "run/run.json").read_text())
    assert (again.exit_code, again.main_files) == (0, first.main_files)


@pytest.mark.parametrize(
    ("change", "message"), [({"seed": 1}, "seed differs: 0 then, 1 now"), ({}, "weights_sha256")]
)
def test_a_run_of_other_arguments_or_weights_is_not_resumed(
    model: cvx.VisionModel,
    photographs: list[Path],
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_folder, "write_atomic", stopped_at(5, interrupted))
        with pytest.raises(KeyboardInterrupt):
            run(model, photographs, tmp_path / "run")
    if not change:
        with torch.no_grad():
            next(model.module.parameters()).mul_(2)
    with pytest.raises(UsageError, match=message):
        run(model, photographs, tmp_path / "run", resume=True, **change)


def test_an_output_folder_that_vanishes_ends_the_run(
    model: cvx.VisionModel, photographs: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for write in WRITES[1:]:

        def vanish() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            full()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(output_folder, "write_atomic", stopped_at(write, vanish))
            with pytest.raises(OutputError):
                run(model, photographs, folder)
        assert not folder.exists()


def test_a_long_run_keeps_no_explanations_in_memory(
    model: cvx.VisionModel, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, photographs, tmp_path / "held")
    monkeypatch.setattr(finished_images, "_HELD", 0)
    run(model, photographs, tmp_path / "read")
    assert content(tmp_path / "read") == content(tmp_path / "held")
