"""How fast a run is beside the network alone, and how much memory its rows take.

    python measure_pace.py pace [MODEL] [DEVICE] [N]  share of the bare forward rate, 10 % errors
    python measure_pace.py memory [ROWS ...]          peak memory of runs of so many inputs

Prints one JSON document a line.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cvx_diagnose import diagnose
from cvx_embedded import photographs
from cvx_engine import Local
from PIL import Image, ImageEnhance

import cvx_core as cvx
from cvx_core.testing.models import CLASSES, convolutional

IMAGES = 64
ROUNDS = 3
BATCH = 32


def photographs_of_all_kinds(folder: Path, count: int) -> list[Path]:
    """Write crops of the photographs that come along, each another file of about 500 x 375."""
    generator = np.random.default_rng(0)
    files = []
    sources = [Image.open(one.path).convert("RGB") for one in photographs()]
    for i in range(count):
        picture = sources[i % len(sources)]
        side = generator.uniform(0.6, 1.0)
        width, height = (round(side * s) for s in picture.size)
        left, top = (
            int(generator.integers(0, s - t + 1))
            for s, t in zip(picture.size, (width, height), strict=True)
        )
        crop = picture.crop((left, top, left + width, top + height)).resize((500, 375))
        crop = ImageEnhance.Brightness(crop).enhance(float(generator.uniform(0.6, 1.4)))
        files.append(folder / f"{i:05d}.jpg")
        crop.save(files[-1], quality=90)
    return files


def bare(model: cvx.VisionModel, inputs: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """Seconds, and seconds of the processor, that the network alone takes, in the same batches."""
    model.output(inputs[:BATCH])
    _wait(model)
    started = clocks()
    for part in inputs.split(BATCH):
        model.output(part).flat.sum().item()
    _wait(model)
    return clocks() - started


def clocks() -> np.ndarray[Any, np.dtype[Any]]:
    """Now, the processor's seconds of this process, and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array(
        [time.perf_counter(), time.process_time(), children.ru_utime + children.ru_stime]
    )


def _wait(model: cvx.VisionModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def pace(name: str = "embedded", device: str = "cpu", count: str = str(IMAGES)) -> None:
    """Print the rate of the network alone and of a run, by turns."""
    model, images = cvx.load_model(name, device=device), int(count)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = photographs_of_all_kinds(folder, images)
        inputs = torch.stack([model.prepare(file)[0].tensor for file in files])
        said = torch.cat([model.output(part).flat.argmax(1) for part in inputs.split(BATCH)])
        wrong = np.random.default_rng(1).random(images) < 0.1
        labels = [
            int(q) if not w else (int(q) + 1) % 1000 for q, w in zip(said, wrong, strict=True)
        ]
        lines = [f"{file.name},{label}" for file, label in zip(files, labels, strict=True)]
        (folder / "list.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
        # A first run gets to know the network and warms the disk.
        diagnose(model, folder / "list.csv", folder / "first", limit=64, budget=0)
        # The network alone and a run by turns: what else the machine does meets both.
        for budget, k in product((0.0, None), range(ROUNDS)):
            alone = bare(model, inputs)
            started = clocks()
            run = diagnose(model, folder / "list.csv", folder / f"run{budget}-{k}", budget=budget)
            took = clocks() - started
            assert run.summary is not None
            size = sum(file.stat().st_size for file in (run.folder / "rows").iterdir())
            document = {
                "model": name,
                "device": str(model.device),
                "images": images,
                "wrong": run.summary["accuracy"]["total"] - run.summary["accuracy"]["correct"],
                "budget": "control_change" if budget is None else budget,
                "bare_per_second": round(images / alone[0], 1),
                "run_per_second": round(images / took[0], 1),
                "share": round(alone[0] / took[0], 3),
                # On a machine that others use too, the processor's time is the steadier measure.
                "share_of_processor_time": round(alone[1] / took[1], 3),
                "decoding_ms_per_image": round(1000 * took[2] / images, 1),
                "bytes_per_row": round(size / images),
                "threads": torch.get_num_threads(),
            }
            print(json.dumps(document), flush=True)


class Noise:
    """A data set of prepared noise, made when it is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(i)
        return torch.randn(3, 32, 32, generator=generator), i % len(CLASSES)


def _measured(rows: int, result: Any) -> None:
    model = cvx.VisionModel(convolutional().module, classes=CLASSES)
    with tempfile.TemporaryDirectory() as place:
        diagnose(model, Noise(500), Path(place) / "first", budget=0, engine=Local(workers=1))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        run = diagnose(model, Noise(rows), Path(place) / "run", budget=0, engine=Local(workers=1))
        seconds = time.perf_counter() - started
        assert run.summary is not None
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.put(
        {
            "rows": rows,
            "peak_mib": round(after / 1024),
            "before_mib": round(before / 1024),
            "seconds": round(seconds, 1),
        }
    )


def memory(*counts: str) -> None:
    """Print the peak of the process that explains, for runs of several sizes, each in its own."""
    context = multiprocessing.get_context("spawn")
    for count in counts or ("1000", "100000"):
        result = context.Queue()
        process = context.Process(target=_measured, args=(int(count), result))
        process.start()
        print(json.dumps(result.get()), flush=True)
        process.join()


if __name__ == "__main__":
    {"pace": pace, "memory": memory}[sys.argv[1]](*sys.argv[2:])
