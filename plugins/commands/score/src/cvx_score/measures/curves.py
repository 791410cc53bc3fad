"""Insertion, deletion and ROAD: what the network answers as pixels go in the order of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import InputError, OptionError, UsageError, VisionModel
from cvx_core.images import PreparedImage, make_baseline
from cvx_score.forward import in_shapes, prepare
from cvx_score.measures.early_stop import WITHIN, filled, first_steps, further_steps
from cvx_score.measures.imputation import impute
from cvx_score.measures.perturbations import Trials
from cvx_score.measures.pixel_order import Values, on_pixels, ranks, read_map
from cvx_score.targets import Asked, Quantity, Questions, Truths, ask

STEPS = 50
"""Steps of insertion and deletion, each of 2 % of the pixels."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the pixels that ROAD removes, as in its paper."""

NOISE = 0.01
"""Standard deviation of ROAD's noise in units of the network's input, as in its authors' code."""

Baseline = str | Tensor
"""``"zero"``, ``"mean"``, ``"blur"`` (`cvx_core.images.baselines`), or a tensor, (C, H, W) or for each."""


Changed = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From images (n,), places of their pixels (n, H, W) and how many go (n, 1, 1): (n, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Curves:
    """What a network answered as pixels went, for each image.

    Attributes
    ----------
    shares
        float64 (S,): shares of the pixels that were put in (insertion) or taken away, 0 to 1.
    values
        float64 (B, S): the quantity there, on straight lines where a step was left out.
    measured
        bool (B, S): whether the step was run.
    scores
        float64 (B,): one number for each image; see the function that made it.
    quantity
        ``"probability"`` or ``"logit"``.
    accuracy
        float64 (S,): share of the images whose first answer is the class asked about; None where
        that is not one class of a classifier, or steps were left out.
    passes
        Images that went through the network.
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
    target: Questions = None,
    label: Truths = None,
    *,
    steps: int = STEPS,
    baseline: Baseline = "blur",
    quantity: Quantity | None = None,
    within: float = WITHIN,
    seed: int = 0,
    memory: int | None = None,
) -> Curves:
    """Return what the network answers as an image appears, the highest values of a map first.

    Petsiuk et al. 2018 (arXiv:1806.07421). The score is the area below the curve by the
    trapezoidal rule, over shares from 0 to 1: a mean of the quantity. Higher is better.

    Parameters
    ----------
    model
        The model; it is left exactly as found.
    images
        As for `cvx_core.explain`.
    maps
        One map (h, w) for each image, over the network's input: an array (B, h, w), a sequence,
        or one (h, w). They are enlarged as pictures of them are.
    target, label
        The question: a target, or a class by name or index; None asks about the predicted class.
    steps
        Steps of equal size. The paper's are of as many pixels as the input is wide.
    baseline
        What the image appears from.
    quantity
        ``"probability"`` or ``"logit"``; None takes the probability where one class is asked
        about, and elsewhere the seeded logit, with the seed of the image as it is.
    within
        How far the area may be off so that fewer steps are run: in probability, or in logits as a
        share of the height of the curve. It is a bound where the curve only rises or only falls
        between two steps that were run, at most 8 apart. 0 runs all steps.
    seed
        Of the order among equal values.
    memory
        Bytes that images run together may take; None chooses from the device's memory.

    Raises
    ------
    InputError
        If a map is not (h, w), or there are not as many as images.
    MethodError
        If a map is the same everywhere, or the question has no such quantity.
    """
    return _replaced(
        model, images, maps, target, label, steps, baseline, quantity, within, seed, memory, True
    )


def deletion(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Questions = None,
    label: Truths = None,
    *,
    steps: int = STEPS,
    baseline: Baseline = "zero",
    quantity: Quantity | None = None,
    within: float = WITHIN,
    seed: int = 0,
    memory: int | None = None,
) -> Curves:
    """Return what the network answers as an image disappears, the highest values of a map first.

    Petsiuk et al. 2018 (arXiv:1806.07421); without the area, the curve is pixel flipping (Bach et
    al. 2015). Lower is better. Parameters and errors are those of `insertion`.
    """
    return _replaced(
        model, images, maps, target, label, steps, baseline, quantity, within, seed, memory, False
    )


def road(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Questions = None,
    label: Truths = None,
    *,
    shares: Sequence[float] = SHARES,
    least_first: bool = False,
    noise: float = NOISE,
    quantity: Quantity | None = None,
    seed: int = 0,
    memory: int | None = None,
) -> Curves:
    """Return what the network answers as pixels are replaced by noisy linear imputation.

    ROAD (Rong et al. 2022, arXiv:2202.00449): remove and debias. What is removed is guessed from
    its surroundings, so that its outline says less about what was there. `Curves.accuracy` is the
    paper's curve; the score is the mean of the quantity over the shares. Lower is better, and with
    `least_first` (the paper's LeRF rather than MoRF) higher.

    Parameters
    ----------
    shares
        Of the pixels, between 0 and 1.
    least_first
        Whether the smallest values go first.
    noise
        Standard deviation of the normal noise on what was replaced, in the units of the network's
        input. It is the same for all images.

    Others are those of `insertion`; the seed is that of the noise too.
    """
    if not len(shares) or not all(0 < share < 1 for share in shares):
        raise OptionError(f"{shares!r} are no shares.", "Give numbers between 0 and 1.")
    if not noise >= 0:
        raise OptionError(f"A noise of {noise!r} can't be.", "Give 0 or more.")

    def change(images: Tensor) -> Changed:
        generator = torch.Generator().manual_seed(seed)
        drawn = noise * torch.randn(images.shape[1:], generator=generator).to(images)

        def changed(rows: Tensor, place: Tensor, counts: Tensor) -> Tensor:
            total = place.shape[1] * place.shape[2]
            removed = place >= total - counts if least_first else place < counts
            return impute(images[rows], removed) + drawn * removed[:, None]

        return changed

    prepared, order = _ordered(model, images, maps, seed)
    asked = ask(model, prepared, target, label, quantity)
    counts = [[int(share * one.numel()) for share in shares] for one in order]
    return _curves(model, asked, order, counts, np.array(shares), change, memory, None)


def _replaced(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Questions,
    label: Truths,
    steps: int,
    baseline: Baseline,
    quantity: Quantity | None,
    within: float,
    seed: int,
    memory: int | None,
    inserted: bool,
) -> Curves:
    if not within >= 0:
        raise OptionError(f"An area can't be within {within!r}.", "Give 0 or more.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise OptionError(f"{steps!r} is no number of steps.", "Take 1 or more.")

    def change(images: Tensor) -> Changed:
        others = baselines(baseline, images)
        first, then = (others, images) if inserted else (images, others)

        def changed(rows: Tensor, place: Tensor, counts: Tensor) -> Tensor:
            return torch.where((place < counts)[:, None], then[rows], first[rows])

        return changed

    prepared, order = _ordered(model, images, maps, seed)
    asked = ask(model, prepared, target, label, quantity)
    counts = [[round(k * one.numel() / steps) for k in range(steps + 1)] for one in order]
    shares = np.arange(steps + 1) / steps
    return _curves(model, asked, order, counts, shares, change, memory, within)


def _ordered(
    model: VisionModel, images: Any, maps: Any, seed: int
) -> tuple[list[PreparedImage], list[Tensor]]:
    """Return the images as the network takes them, and the places of their pixels (H, W)."""
    prepared = prepare(model, images)
    several = [maps] if getattr(maps, "ndim", 3) == 2 else list(maps)
    if len(several) != len(prepared):
        raise UsageError(
            f"There are {len(prepared)} images and {len(several)} maps.", "Give one for each."
        )
    shapes = [(one.tensor.shape[1], one.tensor.shape[2]) for one in prepared]
    return prepared, [
        ranks(on_pixels(read_map(values, f"Map {i}"), shape), seed)
        for i, (values, shape) in enumerate(zip(several, shapes, strict=True))
    ]


def baselines(baseline: Baseline, images: Tensor) -> Tensor:
    """Return what each image (B, C, H, W) is replaced by or compared with."""
    if isinstance(baseline, str):
        return make_baseline(baseline, images)
    if baseline.shape not in (images.shape, images.shape[1:]):
        raise InputError(
            f"The baseline is {tuple(baseline.shape)}, and the images are {tuple(images.shape)}.",
            "Give one prepared image (C, H, W), or one for each.",
        )
    return baseline.to(images).expand_as(images)


def _curves(
    model: VisionModel,
    asked: Sequence[Asked],
    order: Sequence[Tensor],
    counts: Sequence[Sequence[int]],
    shares: Values,
    change: Callable[[Tensor], Changed],
    memory: int | None,
    within: float | None,
) -> Curves:
    """Run the images of each shape together; `within` is None where there is no area to know."""

    def scale(i: int) -> float:
        """Return the unit of `within` for an image."""
        return 1.0 if asked[i].quantity == "probability" else float(np.ptp(values[i][measured[i]]))

    values = np.zeros((len(asked), len(shares)))
    measured, firsts = np.zeros(values.shape, dtype=bool), np.full(values.shape, np.nan)
    passes = len(asked)
    for chosen in in_shapes([one.image for one in asked]):
        images = torch.stack([asked[i].image.tensor for i in chosen])
        places = torch.stack([order[i] for i in chosen]).to(images.device)
        changed, numbers = change(images), torch.tensor([counts[i] for i in chosen])
        trials = Trials(model, [asked[i] for i in chosen], memory)
        steps = first_steps(len(shares)) if within else list(range(len(shares)))
        ahead = [(k, step) for k in range(len(chosen)) for step in steps]
        while ahead:
            owners, at = (list(one) for one in zip(*ahead, strict=True))
            rows = torch.tensor(owners, device=images.device)
            how_many = numbers[owners, at].to(images.device)

            def make(
                start: int,
                stop: int,
                rows: Tensor = rows,
                places: Tensor = places,
                how_many: Tensor = how_many,
                changed: Changed = changed,
            ) -> Tensor:
                part = rows[start:stop]
                return changed(part, places[part], how_many[start:stop, None, None])

            found, first = trials.run(owners, make)
            positions = [chosen[k] for k in owners]
            values[positions, at], measured[positions, at] = found.numpy(), True
            if first is not None:
                firsts[positions, at] = first.numpy()
            ahead = [
                (k, step)
                for k in sorted(set(owners))
                for step in further_steps(
                    values[chosen[k]], measured[chosen[k]], (within or 0) * scale(chosen[k])
                )
            ]
        passes += trials.passes
    every = np.stack([filled(*one) for one in zip(values, measured, strict=True)])
    return Curves(
        shares=shares,
        values=every,
        measured=measured,
        scores=every.mean(1) if within is None else np.asarray(np.trapezoid(every, shares, axis=1)),
        quantity=asked[0].quantity,
        accuracy=firsts.mean(0) if np.isfinite(firsts).all() else None,
        passes=passes,
    )
