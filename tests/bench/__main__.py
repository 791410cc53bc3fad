"""What explanations cost beside the network alone, and beside other libraries.

    OMP_NUM_THREADS=1 python -m tests.bench [--device cuda] [--write]

All contenders of a job run in this process, in turns. On a CPU a time is that of the processor, in
the best of the turns, so that other work on the machine hardly counts; on an accelerator it is the
clock's, until the device is ready. Memory is the peak of tensors beyond those before the call. With
``--write`` the table goes into docs/reference/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision

from tests.bench.counts import device_reads, python_calls
from tests.bench.jobs import JOBS, Job, Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "performance.md"
BEGIN, END = "<!-- table: python -m tests.bench -->\n", "<!-- end of the table -->"


def main() -> int:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default="resnet50", help="a classifier of torchvision")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--jobs", default="", help="part of the jobs' names")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    device = torch.device(options.device)
    network = getattr(torchvision.models, options.network)(weights=None).eval().to(device)
    layer = network.layer4 if hasattr(network, "layer4") else network.features
    images = torch.randn(options.batch, 3, options.size, options.size, device=device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "one CPU thread"
    lines = [
        f"{options.network}, a batch of {options.batch}, {options.size} x {options.size}, {where}, "
        f"torch {torch.__version__}:",
        "",
        "| job | who | time / bare passes | time in ms | peak MiB | Python calls | reads |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for job in JOBS:
        if options.jobs in job.name:
            for line in rows(job, network, layer, images, options.turns):
                print(line, flush=True)
                lines.append(line)
            if options.write:
                write(lines)
    return 0


def write(lines: list[str]) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2])


def rows(job: Job, network: Any, layer: Any, images: torch.Tensor, turns: int) -> list[str]:
    """Return a row of the table for each contender."""
    classes = torch.arange(len(images), device=images.device)
    runs = {f"bare: {job.passes}": job.bare(network, layer)}
    missing = []
    for who, make in job.contenders.items():
        try:
            runs[who] = make(network, layer)
        except ImportError:
            missing.append(who)
    times: dict[str, float] = {}
    for turn in range(turns + 1):
        for who, run in runs.items():
            seconds = timed(run, images, classes)
            if turn:  # the first finds layers and compiles kernels
                times[who] = min(times.get(who, seconds), seconds)
    bare = next(iter(times.values()))
    found = []
    for who, run in runs.items():
        calls = python_calls(lambda run=run: run(images, classes))
        reads = device_reads(lambda run=run: run(images, classes))
        peak = peak_bytes(run, images, classes) / 2**20
        found.append(
            f"| {job.name} | {who} | {times[who] / bare:.2f} | {1e3 * times[who]:.0f} | "
            f"{peak:.0f} | {calls:,} | {reads} |"
        )
    return found + [f"| {job.name} | {who} | not installed | | | | |" for who in missing]


def timed(run: Run, images: torch.Tensor, classes: torch.Tensor) -> float:
    """Return the seconds that a run takes."""
    gc.collect()
    if images.device.type != "cuda":
        started = time.process_time()
        run(images, classes)
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    run(images, classes)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def peak_bytes(run: Run, images: torch.Tensor, classes: torch.Tensor) -> int:
    """Return the peak of the memory that a run allocates, in bytes."""
    if images.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(images, classes)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        run(images, classes)
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    used = peak = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted(events, key=lambda one: one.start_ns()):
        if event.name() == "[memory]":
            used += event.nbytes()
            peak = max(peak, used)
    return peak


if __name__ == "__main__":
    raise SystemExit(main())
