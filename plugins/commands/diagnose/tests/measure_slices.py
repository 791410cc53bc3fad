"""Slices with a known cause: how well they are found, and how often there are none.

    OMP_NUM_THREADS=1 python plugins/commands/diagnose/tests/measure_slices.py [--seeds 0 10]
        [--changes noise compression contrast]

A small network is trained on one half of scikit-learn's digits, in which a red seal is on most
images of one class. Faults are planted in the other half: some images of one class turned by 90
degrees, the seal on images of the other classes, and changes, by default blur and darkness (or
noise, JPEG compression and low contrast). For each the best F1 of a
slice, of a predicted class, and of a cluster of the same features is printed. A twin has the same
inputs with the results permuted: any slice of it is a false alarm. Constants were chosen on seeds
100 to 107.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.slices.search import slices_of
from cvx_diagnose.analysis.slices.units import read_units
from cvx_engine.local import Local
from PIL import Image, ImageFilter
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.datasets import load_digits
from torch import nn

from cvx_core import Preprocess, VisionModel

SIDE = 32
SHARE = 0.08
CLUSTERS = (5, 10, 20, 40)
TWINS = 20


def draw(pixels: np.ndarray, generator: np.random.Generator) -> Image.Image:
    """Return a digit (8, 8) in a light color on a dark one."""
    dark, light = generator.uniform(0, 0.25, 3), generator.uniform(0.7, 1.0, 3)
    small = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
    gray = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[..., None] / 255
    noise = generator.normal(0, 0.03, (SIDE, SIDE, 3))
    shown = (gray * light + (1 - gray) * dark + noise).clip(0, 1)
    return Image.fromarray((shown * 255).astype(np.uint8))


def seal(image: Image.Image) -> Image.Image:
    """Return an image with a red seal at the upper right."""
    found = image.copy()
    found.paste((220, 20, 30), (SIDE - 8, 1, SIDE - 1, 8))
    return found


def blur(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a blurred image."""
    return image.filter(ImageFilter.GaussianBlur(3))


def darken(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a dark image."""
    return Image.fromarray((np.asarray(image) * 0.25).astype(np.uint8))


def add_noise(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a noisy image."""
    pixels = np.asarray(image) + generator.normal(0, 90, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def compress(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return an image compressed to JPEG of the lowest quality."""
    data = io.BytesIO()
    image.save(data, "jpeg", quality=1)
    return Image.open(data).convert("RGB")


def flatten(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return an image of low contrast, as bright as before."""
    pixels = np.asarray(image).astype(float)
    return Image.fromarray((pixels.mean() + (pixels - pixels.mean()) * 0.2).astype(np.uint8))


CHANGES = {
    "blur": blur,
    "darkness": darken,
    "noise": add_noise,
    "compression": compress,
    "contrast": flatten,
}


def network() -> nn.Module:
    """Return an untrained network."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(64, 10),
    )


def train(images: list[Image.Image], labels: np.ndarray, seed: int) -> nn.Module:
    """Return a network trained on images."""
    torch.manual_seed(seed)
    net = network()
    pixels = np.stack([np.asarray(one) for one in images])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    y = torch.from_numpy(labels)
    steps = 30 * (len(y) // 64)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        at = torch.randint(len(y), (64,))
        loss = nn.functional.cross_entropy(net(x[at]), y[at])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return net.eval()


def plant(
    folder: Path, seed: int, changes: Sequence[str] = ("blur", "darkness")
) -> tuple[VisionModel, dict[str, str]]:
    """Train a network, write the images to judge, and return the fault of each file."""
    generator = np.random.default_rng(seed)
    digits = load_digits()
    order = generator.permutation(len(digits.target))
    half = len(order) // 2
    sealed, turned = generator.permutation(10)[:2].tolist()
    images, labels = [], digits.target[order]
    for k in order[:half]:
        one = draw(digits.images[k], generator)
        often = 0.95 if digits.target[k] == sealed else 0.0
        images.append(seal(one) if generator.random() < often else one)
    net = train(images, labels[:half], seed)
    faults = {}
    for n, k in enumerate(order[half:]):
        one, c = draw(digits.images[k], generator), int(digits.target[k])
        drawn, fault = int(generator.random() / SHARE), ""
        if c == turned and generator.random() < 0.4:
            one, fault = one.transpose(Image.Transpose.ROTATE_90), "rotation"
        elif drawn < len(changes):
            fault = changes[drawn]
            one = CHANGES[fault](one, generator)
        elif drawn == len(changes) and c != sealed:
            one, fault = seal(one), "seal"
        path = Path(f"d{c}") / f"{n:04}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        one.save(folder / path)
        faults[path.as_posix()] = fault
    normalized = Preprocess(crop=SIDE, resize=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)
    names = tuple(f"d{c}" for c in range(10))
    return VisionModel(net, preprocess=normalized, classes=names, name="digits"), faults


def f1(found: set[int], wanted: set[int]) -> float:
    """Return the harmonic mean of precision and recall of a set."""
    return 2 * len(found & wanted) / max(1, len(found) + len(wanted))


def sets_of(labels: np.ndarray, ids: np.ndarray) -> list[set[int]]:
    """Return the members of each cluster."""
    return [set(ids[labels == one].tolist()) for one in np.unique(labels) if one >= 0]


def measure(seed: int, changes: Sequence[str]) -> tuple[dict[str, dict[str, float]], int, int]:
    """Return F1 by description and fault, false alarms of the twin, and its trials."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, faults = plant(folder / "data", seed, changes)
        run = diagnose(model, folder / "data", folder / "run", budget=0.0, engine=Local(workers=1))
        return judge(run, faults, seed)


def judge(
    run: Run, faults: dict[str, str], seed: int, twins: int = TWINS // 10
) -> tuple[dict[str, dict[str, float]], int, int]:
    """Return what `measure` does, of a finished run."""
    assert run.summary is not None
    issues = [one["id"] for one in run.summary["label_issues"]["listed"]]
    units = read_units(run, None, issues)
    assert units is not None
    name = class_namer(run.plan.classes)
    slices = slices_of(units, name)
    table = run.table(["id", "path", "predicted", "correct", "features"], status="ok")
    ids, predicted = table["id"].to_numpy(), table["predicted"].to_numpy()
    features = np.nan_to_num(run.numbers(table, "features"))
    paths = table["path"].to_pylist()
    kmeans = [
        one
        for k in CLUSTERS
        for one in sets_of(KMeans(k, n_init=4, random_state=0).fit_predict(features), ids)
    ]
    described: dict[str, list[set[int]]] = {
        "slices of `diagnose`": [set(one.tolist()) for one in slices.members],
        "predicted class": sets_of(predicted, ids),
        "k-means (5 to 40 clusters, the best)": kmeans,
        "HDBSCAN": sets_of(HDBSCAN(min_cluster_size=10, copy=True).fit_predict(features), ids),
    }
    found: dict[str, dict[str, float]] = {}
    every = sorted(set(faults.values()) - {""})
    for fault in every:
        wanted = {k for k, path in zip(ids.tolist(), paths, strict=True) if faults[path] == fault}
        for what, sets in described.items():
            found.setdefault(what, {})[fault] = max((f1(one, wanted) for one in sets), default=0.0)
    print(json.dumps({"seed": seed, "f1": found}))
    print(seed, f"accuracy {run.summary['accuracy']['value']:.2f}", end=" ")
    print({fault: round(value, 2) for fault, value in found["slices of `diagnose`"].items()})
    right = dict(zip(ids.tolist(), table["correct"].to_pylist(), strict=True))
    for fault in every:
        of = [
            right[k] for k, path in zip(ids.tolist(), paths, strict=True) if faults[path] == fault
        ]
        print("  ", fault, len(of), "images, accuracy", round(float(np.mean(of)), 2))
    print("  ", "; ".join(f"{d['name']} {d['errors']}/{d['count']}" for d in slices.described))
    alarms = 0
    for twin in range(twins):
        permuted = np.random.default_rng([seed, twin]).permutation(units.right)
        alarms += bool(slices_of(units.with_right(permuted), name).described)
    return found, alarms, twins


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 10))
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=["blur", "darkness"])
    given = parser.parse_args()
    start, stop = given.seeds
    results: list[dict[str, dict[str, float]]] = []
    alarms = twins = 0
    for seed in range(start, stop):
        found, false, tried = measure(seed, given.changes)
        results.append(found)
        alarms, twins = alarms + false, twins + tried
    faults = list(results[0]["predicted class"])
    print("\n| described by |", " | ".join(faults), "|\n|---|" + "---|" * len(faults))
    for what in results[0]:
        row: list[Any] = []
        for fault in faults:
            values = [one[what][fault] for one in results]
            row.append(f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        print(f"| {what} |", " | ".join(row), "|")
    print(f"\nTwins with a slice: {alarms} of {twins}.")


if __name__ == "__main__":
    main()
