"""Measure ``cvx why`` on causes that are spread over the image, or everywhere.

``python tests/planted/spread.py`` trains the networks on first use and prints a row for each cause.
A case counts as found if the peak of the blame lies in the cause, or if the cause covers a third of
the image or more and the report says so: it is spread, or a stretched contrast corrects it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planted.causes import SPREAD, Cause
from planted.measures import hit, rank_accuracy
from planted.networks import RECIPES, cases, pair

import cvx_core as cvx
from cvx_core import Preprocess, VisionModel

WIDE = 0.3
"""Share of the image from which on a cause is everywhere."""


def main() -> int:
    """Print the measures of each network and cause."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/planted/spread.py")
    names = [cause.name for cause in SPREAD]
    parser.add_argument("--networks", nargs="*", default=["cnn"], choices=list(RECIPES))
    parser.add_argument("--causes", nargs="*", default=names, choices=names)
    parser.add_argument("--cases", type=int, default=12, help="of each network and cause")
    parser.add_argument("--seed", type=int, default=21, help="of where causes are put")
    given = parser.parse_args()
    for network in given.networks:
        for cause in (one for one in SPREAD if one.name in given.causes):
            row = mean(network, cause, given.cases, given.seed)
            cells = " | ".join(f"{value:.2f}" for value in row.values())
            print(f"| {network} | {cause.name} | {cells} |", flush=True)
    return 0


def mean(network: str, cause: Cause, most: int, seed: int) -> dict[str, float]:
    """Return the measures' means over the cases, and their number."""
    recipe = RECIPES[network]
    both = pair(recipe, cause)
    scale = Preprocess(crop=recipe.side, resize=recipe.side, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = VisionModel(both.shortcut.module, scale, classes=both.shortcut.classes)
    chosen = cases(both, recipe, cause, most, seed)
    rows = [measure(model, one.inputs[0], one.cause, one.label) for one in chosen]
    return {"cases": len(rows), **{key: fmean(row[key] for row in rows) for key in rows[0]}}


def measure(
    model: VisionModel, planted: torch.Tensor, cause: torch.Tensor, label: int
) -> dict[str, float]:
    """Return the measures of a report on one picture, as an image file would give it."""
    pixels = (planted * 255).round().byte().permute(1, 2, 0).numpy()
    report = cvx.why(model, Image.fromarray(pixels), label)
    values = torch.tensor(report.blame.values)
    stretched = any("contrast" in one.name for one in report.preparations)
    wide = float(cause.float().mean()) >= WIDE
    everywhere = report.spread is not None or stretched
    at_cause = hit(values, cause) and not bool(cause.all())
    return {
        "passes": report.passes,
        "found": float(at_cause or (wide and everywhere)),
        "peak": float(at_cause),
        "everywhere": float(everywhere),
        "rank accuracy": rank_accuracy(values, cause),
        "right": float(report.fix is not None or bool(report.preparations)),
    }


if __name__ == "__main__":
    sys.exit(main())
