"""How long cvx and Quantus take for the same measures of the same maps.

    OMP_NUM_THREADS=1 python tests/score_speed.py PHOTO...

Both run in this process, in turns, on the embedded EfficientNet-Lite0 and one thread. A time is
that of the processor, in the better of two turns. The maps are Grad-CAM's. The table is in
docs/explanation/faithfulness.md.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import quantus
import torch
from cvx_score import completeness, deletion, pointing, rank_accuracy, relevance_mass, road, score
from cvx_score.measures.pixel_order import on_pixels
from quantus.functions.perturb_func import noisy_linear_imputation

import cvx_core as cvx

STEPS = 48
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
TURNS = 2


def main(photographs: list[str]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = cvx.load_model("embedded")
    net = model.module.eval()
    images = torch.stack([one.tensor for one in model.prepare(photographs)])
    count, _, height, width = images.shape
    made = cvx.explain(model, images, "grad-cam", cvx.Predicted())
    maps = np.stack([on_pixels(one.values, (height, width)) for one in made]).astype(np.float32)
    classes = np.array([one.target.predicted.index for one in made])
    targets = [int(c) for c in classes]
    masks = np.zeros((count, 1, height, width), dtype=bool)
    masks[:, :, height // 4 : -height // 4, width // 4 : -width // 4] = True

    def ask(metric: Any, **more: Any) -> Any:
        given = {"x_batch": images.numpy(), "y_batch": classes, "a_batch": maps[:, None]}
        return metric(model=net, **given, **more)

    def imputed(arr: Any, indices: Any, **parameters: Any) -> Any:
        # Its indices count the channels too, and its imputation takes pixels.
        pixels = np.unique(indices % (height * width))
        return noisy_linear_imputation(arr=arr, indices=pixels, **parameters)

    def placed(measure: Callable[..., float]) -> list[float]:
        return [measure(one, mask[0]) for one, mask in zip(maps, masks, strict=True)]

    few = slice(0, 4)
    gradients = magnitudes(net, images[few].numpy(), classes[few])
    plain = {"normalise": False, "disable_warnings": True}
    flip = quantus.PixelFlipping(
        features_in_step=3 * height * width // STEPS, perturb_baseline=0.0, **plain
    )
    # Shares of three times as many values, because each pixel is there once for each channel.
    percentages = [300 * share for share in SHARES]
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f"deletion, {STEPS} steps": (
            partial(deletion, model, images, maps, targets, steps=STEPS),
            lambda: ask(flip),
        ),
        f"deletion, all {STEPS} steps": (
            partial(deletion, model, images, maps, targets, steps=STEPS, within=0),
            lambda: ask(flip),
        ),
        f"ROAD, {len(SHARES)} shares": (
            partial(road, model, images, maps, targets, shares=SHARES),
            lambda: ask(quantus.ROAD(percentages=percentages, perturb_func=imputed, **plain)),
        ),
        "randomization of saliency, 4 photographs": (
            partial(
                score, model, images[few], "saliency", targets[few], measures=["randomization"]
            ),
            lambda: quantus.MPRT(**plain)(
                model=net,
                x_batch=images[few].numpy(),
                y_batch=classes[few],
                a_batch=gradients,
                explain_func=magnitudes,
            ),
        ),
        "completeness": (
            partial(completeness, model, images, maps, targets),
            lambda: ask(quantus.Completeness(perturb_baseline=0.0, **plain), softmax=False),
        ),
        "pointing game": (
            lambda: placed(pointing),
            lambda: ask(quantus.PointingGame(**plain), s_batch=masks),
        ),
        "relevance mass": (
            lambda: placed(relevance_mass),
            lambda: ask(quantus.RelevanceMassAccuracy(**plain), s_batch=masks),
        ),
        "relevance rank": (
            lambda: placed(rank_accuracy),
            lambda: ask(quantus.RelevanceRankAccuracy(**plain), s_batch=masks),
        ),
    }
    print(f"{count} photographs, torch {torch.__version__}, quantus {quantus.__version__}")
    print("| measure | cvx | Quantus | times as fast |\n|---|---:|---:|---:|")
    for name, (ours, theirs) in pairs.items():
        turns = [(seconds(ours), seconds(theirs)) for _ in range(TURNS)]
        mine, other = (min(one) for one in zip(*turns, strict=True))
        print(f"| {name} | {mine:.3g} s | {other:.3g} s | {other / mine:.1f} |", flush=True)
    areas = [
        deletion(model, images, maps, targets, steps=STEPS, within=within).scores
        for within in (0.01, 0.0)
    ]
    apart = np.abs(areas[0] - areas[1])
    print(f"The areas by fewer steps are off by {apart.mean():.4f}, at most {apart.max():.4f}.")


def magnitudes(model: Any, inputs: Any, targets: Any, **_: Any) -> Any:
    """Return the largest magnitude of the gradient over the channels, (n, 1, H, W)."""
    given = torch.as_tensor(inputs).float().requires_grad_(True)
    rows = torch.arange(len(given))
    total = model(given)[rows, torch.as_tensor(targets).long()].sum()
    [gradient] = torch.autograd.grad(total, given)
    return gradient.abs().amax(1, keepdim=True).numpy()


def seconds(run: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main(sys.argv[1:])
