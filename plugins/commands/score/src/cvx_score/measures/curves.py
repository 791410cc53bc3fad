"""Insertion, deletion and ROAD: the target's score as pixels are replaced in the order of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import InputError, OptionError, VisionModel
from cvx_core.images import make_baseline
from cvx_score.forward import check_count, in_shapes, prepare
from cvx_score.measures.early_stop import WITHIN, first_steps, further_steps, interpolate
from cvx_score.measures.imputation import impute
from cvx_score.measures.perturbations import PerturbationRunner
from cvx_score.measures.pixel_order import Values, on_pixels, ranks, read_map
from cvx_score.targets import Labels, MeasuredTarget, Quantity, Targets, resolve_targets

STEPS = 50
"""Steps of insertion and deletion, each of 2 % of the pixels."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the pixels that ROAD replaces, as in its paper."""

NOISE = 0.01
"""Standard deviation of ROAD's noise in units of the network's input, as in its authors' code."""

Baseline = str | Tensor
"""``"zero"``, ``"mean"``, ``"blur"`` (`cvx_core.images.make_baseline`), or a tensor (C, H, W) or
(B, C, H, W)."""

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From indices of images (n,), ranks of their pixels (n, H, W) and the numbers of pixels to
replace (n, 1, 1) to perturbed images (n, C, H, W)."""

_Prepared = Sequence[tuple[MeasuredTarget, Tensor]]
"""For each image its target, and the ranks (H, W) of its pixels in the order of the map."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The score of the target as pixels are replaced, for each image.

    Attributes
    ----------
    shares
        float64 (S,): shares of the pixels that are inserted or replaced, 0 to 1.
    values
        float64 (B, S): the quantity there, interpolated linearly at steps that were not run.
    measured
        bool (B, S): the steps that were run.
    scores
        float64 (B,): one number for each image; see the function that made it.
    quantity
        ``"probability"`` or ``"logit"``.
    accuracy
        float64 (S,): share of the images whose predicted class is the target's; None if the target
        is not one class of a classifier, or if steps were not run.
    passes
        Images in forward passes.
    """

    shares: Values
    values: Values
    measured: npt.NDArray[np.bool_]
    scores: Values
    quantity: str
    accuracy: Values | None
    passes: int


def insertion(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Targets = None,
    label: Labels = None,
    *,
    steps: int = STEPS,
    baseline: Baseline = "blur",
    quantity: Quantity | None = None,
    within: float = WITHIN,
    seed: int = 0,
    memory: int | None = None,
) -> Curves:
    """Return the curve of the target as pixels are inserted, the highest values of a map first.

    Petsiuk et al. 2018 (arXiv:1806.07421). The score is the area below the curve by the
    trapezoidal rule, over shares from 0 to 1: a mean of the quantity. Higher is better.

    Parameters
    ----------
    model
        The model; it is left unchanged.
    images
        See `cvx_core.explain`.
    maps
        One map (h, w) for each image, over the network's input: an array (B, h, w), a sequence,
        or one (h, w). They are enlarged as for display.
    target, label
        A target, or a class by name or index; None takes the predicted class.
    steps
        Number of steps of equal size. A step of the paper has as many pixels as the input is wide.
    baseline
        The image before any pixel is inserted.
    quantity
        ``"probability"`` or ``"logit"``; None takes the probability if the target is one class,
        otherwise the seeded logit, with the seed of the original image.
    within
        Error bound of the area, so that fewer steps are run: in probability, or in logits as a
        share of the height of the curve. It holds if the curve is monotonic between two steps that
        were run, at most 8 apart. 0 runs all steps.
    seed
        Seed of the order among equal values.
    memory
        Memory budget for one batch in bytes; None chooses it from the device.

    Raises
    ------
    InputError
        If a map is not (h, w), or the numbers of maps and images differ.
    MethodError
        If a map is constant, or the target has no such quantity.
    """
    _check_steps(steps, within)
    prepared = _prepared(model, images, maps, target, label, quantity, seed)
    return _replace(model, prepared, steps, baseline, within, memory, insert=True)


def deletion(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Targets = None,
    label: Labels = None,
    *,
    steps: int = STEPS,
    baseline: Baseline = "zero",
    quantity: Quantity | None = None,
    within: float = WITHIN,
    seed: int = 0,
    memory: int | None = None,
) -> Curves:
    """Return the curve of the target as pixels are deleted, the highest values of a map first.

    Petsiuk et al. 2018 (arXiv:1806.07421); without the area, the curve is pixel flipping (Bach et
    al. 2015). Lower is better. Parameters and errors are those of `insertion`.
    """
    _check_steps(steps, within)
    prepared = _prepared(model, images, maps, target, label, quantity, seed)
    return _replace(model, prepared, steps, baseline, within, memory, insert=False)


def road(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Targets = None,
    label: Labels = None,
    *,
    shares: Sequence[float] = SHARES,
    least_first: bool = False,
    noise: float = NOISE,
    quantity: Quantity | None = None,
    seed: int = 0,
    memory: int | None = None,
) -> Curves:
    """Return the curve of the target as pixels are replaced by noisy linear imputation.

    ROAD (Rong et al. 2022, arXiv:2202.00449): remove and debias. Pixels are imputed from their
    surroundings, so that the outline of the replaced region reveals less. `Curves.accuracy` is the
    paper's curve; the score is the mean of the quantity over the shares. Lower is better; with
    `least_first` (the paper's LeRF rather than MoRF) higher is better.

    Parameters
    ----------
    shares
        Shares of the pixels, between 0 and 1.
    least_first
        Whether the smallest values are replaced first.
    noise
        Standard deviation of the normal noise on replaced pixels, in the units of the network's
        input. It is the same for all images.

    Others are those of `insertion`; the seed also determines the noise.
    """
    if not len(shares) or not all(0 < share < 1 for share in shares):
        raise OptionError(f"shares must be numbers between 0 and 1, got {shares!r}.")
    if not noise >= 0:
        raise OptionError(f"noise must be 0 or more, got {noise!r}.")

    def change(images: Tensor) -> Change:
        generator = torch.Generator().manual_seed(seed)
        drawn = noise * torch.randn(images.shape[1:], generator=generator).to(images)

        def changed(rows: Tensor, order: Tensor, counts: Tensor) -> Tensor:
            total = order.shape[1] * order.shape[2]
            replaced = order >= total - counts if least_first else order < counts
            return impute(images[rows], replaced) + drawn * replaced[:, None]

        return changed

    prepared = _prepared(model, images, maps, target, label, quantity, seed)
    counts = [[int(share * one.numel()) for share in shares] for _, one in prepared]
    return _curves(model, prepared, counts, np.array(shares), change, memory, None)


def _check_steps(steps: int, within: float) -> None:
    if not within >= 0:
        raise OptionError(f"within must be 0 or more, got {within!r}.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise OptionError(f"steps must be an integer, 1 or more, got {steps!r}.")


def baselines(baseline: Baseline, images: Tensor) -> Tensor:
    """Return the baseline of each image (B, C, H, W)."""
    if isinstance(baseline, str):
        return make_baseline(baseline, images)
    if baseline.shape not in (images.shape, images.shape[1:]):
        raise InputError(
            f"The baseline is {tuple(baseline.shape)}, and the images are {tuple(images.shape)}.",
            "Give one prepared image (C, H, W), or one for each.",
        )
    return baseline.to(images).expand_as(images)


def _replace(
    model: VisionModel,
    prepared: _Prepared,
    steps: int,
    baseline: Baseline,
    within: float,
    memory: int | None,
    *,
    insert: bool,
) -> Curves:
    """Return the curves from images to baselines, or back."""

    def change(images: Tensor) -> Change:
        others = baselines(baseline, images)
        first, then = (others, images) if insert else (images, others)
        return lambda rows, order, counts: torch.where(
            (order < counts)[:, None], then[rows], first[rows]
        )

    shares = np.arange(steps + 1) / steps
    counts = [[round(k * one.numel() / steps) for k in range(steps + 1)] for _, one in prepared]
    return _curves(model, prepared, counts, shares, change, memory, within)


def _prepared(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Targets,
    label: Labels,
    quantity: Quantity | None,
    seed: int,
) -> _Prepared:
    prepared = prepare(model, images)
    several = [maps] if getattr(maps, "ndim", 3) == 2 else list(maps)
    check_count(several, prepared)
    orders = [
        ranks(on_pixels(read_map(values, f"Map {i}"), one.tensor.shape[1:]), seed)
        for i, (values, one) in enumerate(zip(several, prepared, strict=True))
    ]
    targets = resolve_targets(model, prepared, target, label, quantity)
    return list(zip(targets, orders, strict=True))


def _curves(
    model: VisionModel,
    prepared: _Prepared,
    counts: Sequence[Sequence[int]],
    shares: Values,
    change: Callable[[Tensor], Change],
    memory: int | None,
    within: float | None,
) -> Curves:
    """Run the images of each shape together; without `within` the score is a plain mean."""
    targets = [target for target, _ in prepared]
    values = np.zeros((len(targets), len(shares)))
    measured, correct = np.zeros(values.shape, dtype=bool), np.full(values.shape, np.nan)
    passes = len(targets)

    def further(i: int) -> list[int]:
        # The unit of `within`.
        probability = targets[i].quantity == "probability"
        unit = 1.0 if probability else float(np.ptp(values[i][measured[i]]))
        return further_steps(values[i], measured[i], (within or 0) * unit)

    for chosen in in_shapes([one.image for one in targets]):
        images = torch.stack([targets[i].image.tensor for i in chosen])
        orders = torch.stack([prepared[i][1] for i in chosen]).to(images.device)
        changed, numbers = change(images), torch.tensor([counts[i] for i in chosen])
        runner = PerturbationRunner(model, [targets[i] for i in chosen], memory)
        steps = first_steps(len(shares)) if within else list(range(len(shares)))
        ahead = [(k, step) for k in range(len(chosen)) for step in steps]
        while ahead:
            owners, at = (list(one) for one in zip(*ahead, strict=True))
            rows = torch.tensor(owners, device=images.device)
            how_many = numbers[owners, at].to(images.device)
            positions = [chosen[k] for k in owners]
            values[positions, at], correct[positions, at] = runner.run(
                owners, partial(_perturbed, changed, orders, rows, how_many)
            )
            measured[positions, at] = True
            ahead = [(k, step) for k in sorted(set(owners)) for step in further(chosen[k])]
        passes += runner.passes
    every = np.stack([interpolate(*one) for one in zip(values, measured, strict=True)])
    area = np.trapezoid(every, shares, axis=1)
    return Curves(
        shares=shares,
        values=every,
        measured=measured,
        scores=every.mean(1) if within is None else np.asarray(area),
        quantity=targets[0].quantity,
        accuracy=correct.mean(0) if np.isfinite(correct).all() else None,
        passes=passes,
    )


def _perturbed(
    changed: Change, orders: Tensor, rows: Tensor, counts: Tensor, start: int, stop: int
) -> Tensor:
    part = rows[start:stop]
    return changed(part, orders[part], counts[start:stop, None, None])
