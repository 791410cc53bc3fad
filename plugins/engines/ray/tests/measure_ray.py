"""The rate, the start and the memory of this engine beside the one of one machine.

    python measure_ray.py [IMAGES]

Prints one JSON document a line. Photographs of about 500 x 375, EfficientNet-Lite0, a tenth of the
labels wrong, no budget, all on this machine.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cvx_diagnose import diagnose
from cvx_embedded import photographs
from cvx_engine import Engine, Listener, Local
from cvx_ray.engine import Ray
from PIL import Image

import cvx_core as cvx

ENGINES: dict[str, Engine] = {
    "local": Local(workers=1),
    "ray": Ray(models=1, decoders=1),
}


class Times(Listener):
    """Notes when the first rows were there, and when the last were."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.rows: list[tuple[float, int]] = []

    def advanced(self, count: int) -> None:
        """Note it."""
        self.rows.append((time.perf_counter() - self.began, count))


def write_photographs(folder: Path, count: int) -> None:
    """Write crops, each another file, with a list in which a tenth are labelled wrongly."""
    generator, model = np.random.default_rng(0), cvx.load_model("embedded")
    sources = [Image.open(one.path).convert("RGB") for one in photographs()]
    lines = ["path,label"]
    for i in range(count):
        picture = sources[i % len(sources)]
        left, top = (int(generator.integers(0, side // 4)) for side in picture.size)
        crop = picture.crop((left, top, left + picture.width * 3 // 4, picture.height * 3 // 4))
        crop.resize((500, 375)).save(folder / f"{i}.jpg", quality=90)
        [answer] = model.predict([folder / f"{i}.jpg"])
        wrong = generator.random() < 0.1
        lines.append(f"{i}.jpg,{(int(answer.predicted) + wrong) % 1000}")  # type: ignore[attr-defined]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")


def resident(process: int) -> int:
    """Return the bytes of a process and all that descend from it, what they share counted once."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(entry.parent.name))
    total, left = 0, [process]
    while left:
        one = left.pop()
        left += parents.get(one, [])
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def run(name: str, folder: Path, result: Any) -> None:
    """Run one engine in a process of its own."""
    model, times = cvx.load_model("embedded"), Times()
    warm, where = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
    diagnose(model, folder / "list.csv", warm, limit=8, budget=0, engine=Local(workers=1))
    times.began = time.perf_counter()
    diagnose(model, folder / "list.csv", where, engine=ENGINES[name], listener=times, budget=0)
    whole = time.perf_counter() - times.began
    first, last = times.rows[0][0], times.rows[-1][0]
    steady = sum(count for _, count in times.rows[1:]) / (last - first)
    result.put(
        {
            "engine": name,
            "images": sum(count for _, count in times.rows),
            "first_batch_after_seconds": round(first, 1),
            "images_per_second": round(steady, 1),
            "whole_seconds": round(whole, 1),
        }
    )


def main(count: str = "384") -> None:
    """Print what was measured, the engines by turns."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_photographs(folder, int(count))
        for name in [*ENGINES] * 2:
            result, peak = context.Queue(), 0
            process = context.Process(target=run, args=(name, folder, result))
            process.start()
            while process.is_alive():
                peak = max(peak, resident(process.pid or 0))
                process.join(0.5)
            print(json.dumps({**result.get(), "peak_mib": peak >> 20}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
