"""``cvx.score``: how faithful maps are, by many measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cvx_core import (
    CvxError,
    Explainer,
    Explanation,
    Metadata,
    OptionError,
    UsageError,
    VisionModel,
    did_you_mean,
)
from cvx_core.images import Box, MaskRegion, PreparedImage, Region
from cvx_score.forward import prepare
from cvx_score.measures.completeness import completeness
from cvx_score.measures.curves import NOISE, SHARES, STEPS, Curves, deletion, insertion, road
from cvx_score.measures.early_stop import WITHIN
from cvx_score.measures.localization import TOLERANCE, pointing, rank_accuracy, relevance_mass
from cvx_score.measures.pixel_order import on_pixels, read_map
from cvx_score.measures.randomization import randomisation
from cvx_score.methods import Contender, contenders
from cvx_score.report import MEASURES, NEED_REGION, Score, finite
from cvx_score.targets import Quantity, Questions, Truths, as_target, per_image, target_of

DEFAULT = ("insertion", "deletion", "road", "road-lerf", "completeness")
"""What is measured if nothing is asked for, with `NEED_REGION` where regions are given."""

Maps = str | Explainer | Sequence[str | Explainer | Explanation] | Mapping[str, Any]
Regions = Any


def score(
    model: VisionModel,
    images: Any,
    explainers: Maps,
    target: Questions = None,
    label: Truths = None,
    *,
    measures: Sequence[str] | None = None,
    regions: Regions = None,
    steps: int = STEPS,
    within: float = WITHIN,
    shares: Sequence[float] = SHARES,
    noise: float = NOISE,
    insertion_from: str = "blur",
    deletion_to: str = "zero",
    tolerance: float = TOLERANCE,
    quantity: Quantity | None = None,
    seed: int = 0,
    memory: int | None = None,
) -> list[Score]:
    """Return how faithful maps are.

    Parameters
    ----------
    model
        The model; it is left exactly as found.
    images
        As for `cvx_core.explain`.
    explainers
        Whose maps: an explainer or its name, or several; explanations of these images that are
        there already; or a mapping from names to explainers or to maps (B, h, w) made elsewhere,
        which cover the network's input.
    target, label
        The request that all are asked: a target, or a class by name or index; one for all images
        or one for each. None asks about the predicted class, and of explanations what they answer.
    measures
        Of `MEASURES`; None takes all but randomisation, and those that need a region where there
        are regions.
    regions
        Where maps should point: a `Region` or box (left, top, right, bottom) in pixels of the
        photograph, or a mask (H, W) over it; one for all images, or a list of one for each.
    steps, within
        Of insertion and deletion: how many, and how far the area may be off so that fewer are run.
    shares, noise
        Of ROAD; see `cvx_score.road`.
    insertion_from, deletion_to
        What an image appears from and disappears into: ``"zero"``, ``"mean"`` or ``"blur"``.
    tolerance
        Of the pointing game, in pixels of the photograph.
    quantity
        ``"probability"`` or ``"logit"``; None takes the probability where one class is asked
        about, and elsewhere the seeded logit.
    seed
        Of all randomness.
    memory
        Bytes that images run together may take; None chooses from the device's memory.

    Returns
    -------
    list of Score
        By method, then measure. An image for which a measure has no meaning has no value, and a
        reason instead.

    Raises
    ------
    OptionError
        If there is no such measure.
    UsageError
        If a measure requirements a region and there is none, or numbers of images and maps differ.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> [one] = cvx.score(model, "screwdriver.jpg", "grad-cam",
    ...                   measures=["deletion"])                             # doctest: +SKIP
    """
    prepared = prepare(model, images)
    chosen = _measures(measures, regions is not None)
    masks = None if regions is None else _masks(regions, prepared)
    targets = (
        None
        if target is None
        else [as_target(one) for one in per_image(target, len(prepared), "targets", str)]
    )
    found = contenders(model, images, prepared, explainers, targets, label, seed, memory)
    made: list[Score] = []
    for one in found:
        asked = targets or (
            None if one.explanations is None else [target_of(e.target) for e in one.explanations]
        )
        common = {"target": asked, "label": label, "seed": seed, "memory": memory}
        curves = {**common, "quantity": quantity}
        for measure in chosen:
            started = time.perf_counter()
            if measure in ("insertion", "deletion"):
                run = insertion if measure == "insertion" else deletion
                begin = insertion_from if measure == "insertion" else deletion_to
                more: dict[str, Any] = {"steps": steps, "within": within, "baseline": begin}
                scored = _curved(model, prepared, one, run, curves, more)
            elif measure in ("road", "road-lerf"):
                more = {"shares": shares, "noise": noise, "least_first": measure == "road-lerf"}
                scored = _curved(model, prepared, one, road, curves, more)
            elif measure == "completeness":
                scored = _complete(model, prepared, one, asked, label, memory)
            elif measure == "randomisation":
                scored = randomisation(model, images, one, asked, label, seed, memory)
            else:
                assert masks is not None
                scored = _placed(measure, one, masks, prepared, tolerance, seed)
            made.append(Score(one.name, measure, seconds=time.perf_counter() - started, **scored))
    return made


def _measures(names: Sequence[str] | None, with_regions: bool) -> list[str]:
    if names is None:
        return [*DEFAULT, *(NEED_REGION if with_regions else ())]
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in names:
        if name not in MEASURES:
            raise OptionError(
                f"There is no measure {name!r}.",
                did_you_mean(name, MEASURES) or "Known: " + ", ".join(MEASURES) + ".",
            )
        if name in NEED_REGION and not with_regions:
            raise UsageError(
                f"The measure {name!r} compares with a region, and none is given.",
                "Say where the map should point: regions=... (--region on the command line).",
            )
    if not names:
        raise OptionError("There is no measure.", "Known: " + ", ".join(MEASURES) + ".")
    return names


def _masks(regions: Regions, prepared: Sequence[PreparedImage]) -> list[np.ndarray[Any, Any]]:
    """Return the pixels (H, W) of each input that lie in its region."""
    box = isinstance(regions, tuple) and all(isinstance(side, int | float) for side in regions)
    several = [regions] * len(prepared) if box else per_image(regions, len(prepared), "regions")
    return [
        _region(region).on_grid(one.frame, (one.tensor.shape[1], one.tensor.shape[2]))
        for region, one in zip(several, prepared, strict=True)
    ]


def _region(given: Any) -> Region:
    if isinstance(given, Region):
        return given
    if isinstance(given, list | tuple) and len(given) == 4:
        return Box(*map(float, given))
    return MaskRegion(np.asarray(given))


def _each(
    count: int, measured: Callable[[int], float]
) -> tuple[tuple[float | None, ...], tuple[str, ...]]:
    """Return one value for each image, or the reason why there is none."""
    values: list[float | None] = []
    reasons = []
    for i in range(count):
        try:
            values.append(measured(i))
            reasons.append("")
        except CvxError as error:
            values.append(None)
            reasons.append(str(error))
    return tuple(values), tuple(reasons)


def _curved(
    model: VisionModel,
    prepared: Sequence[PreparedImage],
    one: Contender,
    run: Callable[..., Curves],
    common: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Run the curves of all images whose map has an order."""
    _, reasons = _each(len(prepared), lambda i: float(read_map(one.maps[i]).size))
    good = [i for i, reason in enumerate(reasons) if not reason]
    values: list[float | None] = [None] * len(prepared)
    lines: list[tuple[float, ...]] = [()] * len(prepared)
    run_steps: list[list[int]] = [[] for _ in prepared]
    details = (
        {key: more[key] for key in ("steps", "within", "baseline")}
        if "steps" in more
        else {"noise": more["noise"]}
    )
    if not good:
        return {"values": tuple(values), "reasons": reasons, "quantity": "", "details": Metadata()}
    asked = {
        key: [value[i] for i in good] if isinstance(value, list) else value
        for key, value in common.items()
    }
    tensors = [prepared[i] for i in good]
    curves = run(model, tensors, [one.maps[i] for i in good], **asked, **more)
    for k, i in enumerate(good):
        values[i] = finite(float(curves.scores[k]))
        lines[i] = tuple(map(float, curves.values[k]))
        run_steps[i] = np.flatnonzero(curves.measured[k]).tolist()
    accuracy = None if curves.accuracy is None else curves.accuracy.tolist()
    return {
        "values": tuple(values),
        "reasons": reasons,
        "quantity": curves.quantity,
        "shares": tuple(map(float, curves.shares)),
        "curves": tuple(lines),
        "passes": curves.passes,
        "details": Metadata({**details, "accuracy": accuracy, "measured": run_steps}),
    }


def _complete(
    model: VisionModel,
    prepared: Sequence[PreparedImage],
    one: Contender,
    asked: Any,
    label: Any,
    memory: int | None,
) -> dict[str, Any]:
    """Take the residual that an explanation brings along; measure the others against zero."""
    known = [None if e is None else e.evidence.get("residual") for e in one.each()]
    values = [None if residual is None else float(residual) for residual in known]
    open_ones = [i for i, residual in enumerate(known) if residual is None]
    passes = 0
    if open_ones:
        labels = per_image(label, len(prepared), "labels", str)
        found = completeness(
            model,
            [prepared[i] for i in open_ones],
            [one.maps[i] for i in open_ones],
            None if asked is None else [asked[i] for i in open_ones],
            [labels[i] for i in open_ones],
            memory=memory,
        )
        passes = found.passes
        for i, gap in zip(open_ones, found.scores, strict=True):
            values[i] = float(gap)
    against = ["zero" if residual is None else "evidence" for residual in known]
    return {
        "values": tuple(values),
        "reasons": ("",) * len(values),
        "quantity": "gap",
        "passes": passes,
        "details": Metadata({"against": against}),
    }


def _placed(
    measure: str,
    one: Contender,
    masks: Sequence[np.ndarray[Any, Any]],
    prepared: Sequence[PreparedImage],
    tolerance: float,
    seed: int,
) -> dict[str, Any]:
    def measured(i: int) -> float:
        image, mask = prepared[i], masks[i]
        values = on_pixels(read_map(one.maps[i]), mask.shape)
        if measure == "mass":
            return relevance_mass(values, mask)
        if measure == "rank":
            return rank_accuracy(values, mask, seed)
        left, top, right, bottom = image.extent
        scale = (right - left) / mask.shape[1], (bottom - top) / mask.shape[0]
        return pointing(values, mask, tolerance, scale, seed)

    values, reasons = _each(len(prepared), measured)
    details = {"area": [float(mask.mean()) for mask in masks]}
    return {
        "values": values,
        "reasons": reasons,
        "quantity": "hit" if measure == "pointing" else "share",
        "details": Metadata(
            {**details, **({"tolerance": tolerance} if measure == "pointing" else {})}
        ),
    }
