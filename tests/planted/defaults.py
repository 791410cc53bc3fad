"""Measures of explainers: planted causes, grids, two objects, boxes, a region, and pointing.

``python tests/planted/defaults.py`` measures the defaults beside other members of their families
and prints a table for each kind of truth; with ``--write`` it measures every explainer and writes
docs/explanation/which-method.md. Variants were chosen on cases of seed 11; the published numbers
are those of seed 21. ``python tests/planted/defaults.py --help``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planted import which_method
from planted.causes import CAUSES
from planted.measures import hit, rank_accuracy, relevance_mass
from planted.networks import RECIPES, SHORTCUT, cases, pair
from planted.photographs import FOLDER
from planted.scoring import Counting

import cvx_core as cvx
from cvx_core import CvxError, VisionModel

PLANTED = (
    "class-attention",
    "class-attention:weighting=agreement",
    "grad-cam",
    "layer-cam",
    "gradient-error",
    "gradient-error:steps=1",
)
NAMED = {
    "camera": 872, "chicken": 8, "coffee": 967, "dog": 235,
    "hammer4": 587, "jaguar": 290, "lemur": 383, "panda": 388,
}  # fmt: skip
"""Photographs of which the embedded classifier names the class (index)."""
BOXES = ("cat", "cow", "dog", "giraffe", "horse", "coffee", "chair", "owl", "knife", "plate")
MOST = 20_000
"""Images that a method may run forward for a kind of truth: then no further case is measured."""
Rows = dict[str, list[dict[str, float]]]


def main() -> int:
    """Run the measurements that are asked for and print their means."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/planted/defaults.py")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--networks", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--causes", nargs="*", default=["patch"])
    parser.add_argument("--methods", nargs="*", default=list(PLANTED))
    parser.add_argument("--photographs", type=Path, default=FOLDER, help="folder of photographs")
    parser.add_argument("--cases", type=int, default=8, help="of each network and cause")
    parser.add_argument("--seed", type=int, default=21, help="of where causes and images are put")
    parser.add_argument("--most", type=int, default=MOST, help="images forward of a method, a kind")
    parser.add_argument("--write", action="store_true", help="measure all explainers, for the page")
    given = parser.parse_args()
    if given.write:
        given.methods = which_method.explainers()
    torch.set_num_threads(1)
    for kind in given.kinds:
        for title, rows in KINDS[kind](given):
            print(f"\n{title}")
            for method, found in rows.items():
                means = {key: fmean(one[key] for one in found) for key in found[0]}
                cells = "  ".join(f"{key} {value:.2f}" for key, value in means.items())
                print(f"  {method:40} n {len(found):3}  {cells}", flush=True)
            if given.write:
                which_method.keep(title, rows, given.seed)
    if given.write:
        which_method.write()
    return 0


def planted(given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Yield measures on networks that learned a cause, and on their twins."""
    for network in given.networks:
        for cause in (one for one in CAUSES if one.name in given.causes):
            both = pair(RECIPES[network], cause)
            rows: Rows = {name: [] for name in given.methods}
            for case in cases(both, RECIPES[network], cause, given.cases, given.seed):
                target = cvx.Contrast(SHORTCUT, case.label)
                for name, found in _affordable(rows, given.most):
                    made = _map(both.shortcut, case.inputs, name, target)
                    twin = _map(both.twin, case.inputs, name, target)
                    if made is None or twin is None:
                        del rows[name]
                        continue
                    values, cost = made
                    found.append(
                        {
                            "peak": float(hit(values, case.cause)),
                            "share": relevance_mass(values, case.cause),
                            "rank accuracy": rank_accuracy(values, case.cause),
                            "false alarm": float(hit(twin[0], case.cause)),
                            **cost,
                        }
                    )
            yield f"{network}, {cause.name}", rows


def grid(given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Yield the grid pointing game (Bohle 2021, arXiv:2104.00032) on 2 x 2 photographs."""
    model = cvx.load_model("embedded")
    rows: Rows = {name: [] for name in given.methods}
    names = list(NAMED)
    for first in range(len(names)):
        chosen = [names[(first + step) % len(names)] for step in (0, 1, 3, 4)]
        tiles = [_prepared(model, given, name) for name in chosen]
        inputs = torch.cat([torch.cat(tiles[:2], dim=3), torch.cat(tiles[2:], dim=3)], dim=2)
        side, k = inputs.shape[3] // 2, first % 4
        region = torch.zeros(inputs.shape[2:], dtype=torch.bool)
        region[k // 2 * side :, k % 2 * side :][:side, :side] = True
        _point(rows, model, inputs, cvx.ClassScore(NAMED[chosen[k]]), region, given.most)
    yield "grid", rows


def two_objects(given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Yield measures on two photographs side by side, asked about each of them."""
    model = cvx.load_model("embedded")
    for asked in ("one class", "one rather than the other"):
        rows: Rows = {name: [] for name in given.methods}
        names = list(NAMED)
        for one, other in zip(names, names[1:] + names[:1], strict=True):
            inputs = torch.cat([_prepared(model, given, name) for name in (one, other)], dim=3)
            side = inputs.shape[3] // 2
            for k, name in enumerate((one, other)):
                a, b = NAMED[name], NAMED[other if name == one else one]
                target = cvx.ClassScore(a) if asked == "one class" else cvx.Contrast(a, b)
                region = torch.zeros(inputs.shape[2:], dtype=torch.bool)
                region[:, k * side : (k + 1) * side] = True
                _point(rows, model, inputs, target, region, given.most)
        yield f"two objects, {asked}", rows


def boxes(given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Yield measures on the boxes that the embedded detector reports first."""
    model = cvx.load_model("embedded:nanodet")
    rows: Rows = {name: [] for name in given.methods}
    for name in BOXES:
        inputs = _prepared(model, given, name)
        try:
            [prediction] = model.predict(inputs)
            _, target = prediction.resolve(cvx.Predicted())
        except CvxError:  # nothing above the threshold
            continue
        assert target.box is not None
        region = torch.zeros(inputs.shape[2:], dtype=torch.bool)
        left, top, right, bottom = (max(0, round(v)) for v in target.box)
        region[top:bottom, left:right] = True
        _point(rows, model, inputs, cvx.Predicted(), region, given.most)
    yield "boxes of NanoDet", rows


def segments(given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Yield measures on the region that the embedded segmenter gives to a person."""
    model = cvx.load_model("embedded:selfie-segmenter")
    rows: Rows = {name: [] for name in given.methods}
    inputs = _prepared(model, given, "camera")
    scores = model.logits(inputs).reshape(-1, *inputs.shape[2:])
    region = scores[0] > 0 if len(scores) == 1 else scores.argmax(0) == 1
    _point(rows, model, inputs, cvx.Predicted(), region, given.most)
    yield "region of the person segmenter", rows


def objects(given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Yield the pointing game: outlined objects with and without a target, and pasted images."""
    model = cvx.load_model("embedded")
    names = (*which_method.WITHOUT_TARGET, "energy:power=4")
    rows: Rows = {name: [] for name in names}
    asked: Rows = {name: [] for name in given.methods}
    outlines: dict[str, list[Sequence[float]]] = {}
    with Path(__file__).with_name("objects.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            points = [float(value) for value in row["polygon"].split()]
            outlines.setdefault(row["file"], []).append(points)
    for file, polygons in outlines.items():
        inputs = _prepared(model, given, Path(file).stem)
        region = _drawn(polygons, inputs.shape[3])
        _point(rows, model, inputs, None, region, given.most)
        _point(asked, model, inputs, cvx.Predicted(), region, given.most)
    yield "outlined objects", rows
    yield "outlined objects, predicted class", asked
    chance = torch.Generator().manual_seed(given.seed)
    rows = {name: [] for name in names}
    for k, file in enumerate(NAMED):
        ground = _prepared(model, given, ("windmill9", "usCapitol", "plate", "erasers")[k % 4])
        inputs = F.avg_pool2d(F.pad(ground, (28,) * 4, mode="reflect"), 57, 1)
        side = inputs.shape[3] // 3
        small = F.interpolate(
            _prepared(model, given, file), size=side, mode="bilinear", antialias=True
        )
        top, left = torch.randint(0, inputs.shape[3] - side, (2,), generator=chance).tolist()
        inputs[:, :, top : top + side, left : left + side] = small
        region = torch.zeros(inputs.shape[2:], dtype=torch.bool)
        region[top : top + side, left : left + side] = True
        _point(rows, model, inputs, None, region, given.most)
    yield "photographs pasted on a blurred ground", rows


KINDS = {
    "planted": planted,
    "grid": grid,
    "two-objects": two_objects,
    "boxes": boxes,
    "segments": segments,
    "objects": objects,
}


def _affordable(rows: Rows, most: int) -> list[tuple[str, list[dict[str, float]]]]:
    """Return the methods whose next case stays within a number of images run forward."""
    return [
        (name, found)
        for name, found in rows.items()
        if not found or (len(found) + 1) * found[0]["forward"] <= most
    ]


def _point(
    rows: Rows,
    model: VisionModel,
    inputs: Tensor,
    target: cvx.Target | None,
    region: Tensor,
    most: int,
) -> None:
    for name, found in _affordable(rows, most):
        made = _map(model, inputs, name, target)
        if made is None:
            del rows[name]
            continue
        found.append(
            {
                "peak": float(hit(made[0], region)),
                "share": relevance_mass(made[0], region),
                "area": float(region.float().mean()),
                **made[1],
            }
        )


def _map(
    model: VisionModel, inputs: Tensor, method: str, target: cvx.Target | None
) -> tuple[Tensor, dict[str, float]] | None:
    """Return a map over the input (H, W) and its cost, or None where the method is refused."""
    began = perf_counter()
    with Counting(model) as forward:
        try:
            [found] = cvx.explain(model, inputs, method, target)
        except CvxError:
            return None
    seconds = perf_counter() - began
    values = torch.tensor(found.values)[None, None]
    whole = F.interpolate(values, size=inputs.shape[2:], mode="bilinear", align_corners=False)
    backward = found.evidence.get("path_gradients", found.evidence["backwards"])
    cost = {"forward": float(forward[0]), "backward": float(backward), "seconds": seconds}
    return whole[0, 0], cost


def _prepared(model: VisionModel, given: argparse.Namespace, name: str) -> Tensor:
    [image] = model.prepare(str(given.photographs / f"{name}.jpg"))
    return image.tensor.reshape(1, *image.tensor.shape[-3:]).clone()


def _drawn(polygons: list[Sequence[float]], side: int) -> Tensor:
    image = Image.new("1", (side, side))
    for points in polygons:
        ImageDraw.Draw(image).polygon([value * side for value in points], fill=1)
    return torch.from_numpy(np.array(image))


if __name__ == "__main__":
    sys.exit(main())
