"""Mistakes of a segmenter: connected pixels that are wrong in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from cvx_core.errors import OptionError
from cvx_core.images.components import Ints, components
from cvx_core.images.regions import Mask, MaskRegion, positions_region
from cvx_core.tasks.base import Judgement, Mistake
from cvx_core.tasks.classes import ClassEntry, background as find_background
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.prediction import Prediction, Resolved
from cvx_core.tasks.segmentation.prediction import SegmentationPrediction
from cvx_core.tasks.targets import Target

TYPES = ("false negative", "false positive", "confusion", "boundary")

BAND = 3


@dataclass(frozen=True)
class RegionMargin(Target):
    """By how much one class beats another in a region: the mean of z_q - z_y over its pixels.

    Parameters
    ----------
    region
        Of the image.
    predicted, true
        Indices of the classes q and y.
    """

    region: MaskRegion
    predicted: int
    true: int

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed (1_q - 1_y) / n on the region's n pixels; raises as `RegionScore`."""
        prediction = SegmentationPrediction.require(prediction, self)
        inside = self.region.on_grid(prediction.frame, prediction.shape)
        seed = prediction.seed(inside / inside.sum(), self.predicted, self.true)
        classes = [self.predicted, self.true]
        names = " and not ".join(prediction.name(c) for c in classes)
        text = f"why {names} in the {self.region.text}?"
        note = f"The mean over {int(inside.sum())} of {inside.size} pixels."
        box = self.region.bounds
        return seed, prediction.record(
            "region", text, seed, inside, classes, [1.0, -1.0], self.true, note, box
        )


@dataclass(frozen=True, eq=False)
class PixelMistake(Mistake):
    """Connected pixels of a segmenter's prediction that are wrong in the same way.

    The loss is the mean cross-entropy over them, the margin the mean of z_q - z_y.

    Attributes
    ----------
    pixels
        How many output pixels they are.
    """

    pixels: int

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the margin; correct is the true class at half of the pixels or more."""
        assert self.predicted is not None
        assert self.true is not None
        assert isinstance(self.region, MaskRegion)
        found = SegmentationPrediction.require(prediction, self.target)
        inside = self.region.on_grid(found.frame, found.shape)
        q, y = (found.logits[entry.index][inside] for entry in (self.predicted, self.true))
        share = float((found.predicted[inside] == self.true.index).mean())
        note = f"{100 * share:.0f} % of its pixels became {self.true.name}."
        return Judgement(float((q - y).mean()), share >= 0.5, note)


def segmentation_mistakes(
    prediction: SegmentationPrediction,
    ground_truth: GroundTruth,
    *,
    band: int = BAND,
    background: int | Literal["by name"] | None = "by name",
) -> list[Mistake]:
    """Return the mistakes of a segmenter: each wrong pixel belongs to one of them.

    The wrong pixels of one predicted and one true class make a region for each connected part
    (through sides and corners). Where they form a strip at most `band` wide between pixels rightly
    given to the one and to the other class, both are found and their border is not: a ``boundary``
    mistake. The rest is a ``false negative`` where background is predicted, a ``false positive``
    where background is true, else a ``confusion``. As in Boundary IoU (Cheng et al., CVPR 2021),
    pixels at a border count separately; the rim of a missed object is not at a border.

    Parameters
    ----------
    prediction, ground_truth
        Pixels of unknown class are ignored.
    band
        Width of a strip, in output pixels.
    background
        Index of the class that means nothing; None if there is none, and all is confusion. By its
        name, as in ``background``, ``nothing`` or ``void``; the first where classes have no names.

    Returns
    -------
    list of PixelMistake
        By cost, loss times pixels, highest first.

    Raises
    ------
    TargetError
        If the ground truth is not a class for each pixel, or has a class unknown to the model.
    OptionError
        If `band` is negative.
    """
    if band < 0:
        raise OptionError(f"band must be 0 or more output pixels, got {band}.")
    nothing = find_background(prediction.classes) if background == "by name" else background
    true, said = prediction.truth(ground_truth), prediction.predicted
    wrong = (true >= 0) & (true != said)
    pair = np.where(wrong, said * prediction.count + true, -1)
    at_border = _strips(pair, said, true, band)
    parts = components(np.where(wrong, 2 * pair + at_border, -1))
    order = np.argsort(parts, axis=None, kind="stable")[int((~wrong).sum()) :]
    ends = np.flatnonzero(np.diff(parts.reshape(-1)[order])) + 1
    shares = np.split(order, ends) if order.size else []
    cases = [_case(prediction, true, at_border, nothing, share) for share in shares]
    return [*sorted(cases, key=lambda case: -case.loss * case.pixels)]


def _case(
    prediction: SegmentationPrediction,
    true: Ints,
    at_border: Mask,
    background: int | None,
    share: Ints,
) -> PixelMistake:
    rows, columns = np.unravel_index(share, prediction.shape)
    y, q = int(true[rows[0], columns[0]]), int(prediction.predicted[rows[0], columns[0]])
    if at_border[rows[0], columns[0]]:
        kind = "boundary"
    elif background in (q, y):
        kind = "false negative" if q == background else "false positive"
    else:
        kind = "confusion"
    logits = prediction.logits[:, rows, columns]
    most = logits.max(0)
    losses = np.log(np.exp(logits - most).sum(0)) + most - logits[y]
    count = "1 pixel" if share.size == 1 else f"{share.size} pixels"
    region = positions_region(
        prediction.frame, prediction.shape, rows, columns, f"{kind} of {count}"
    )
    predicted, wanted = (
        ClassEntry(
            c,
            prediction.name(c),
            float(logits[c].mean()),
            float(prediction.probabilities[c, rows, columns].mean()),
        )
        for c in (q, y)
    )
    margin = float((logits[q] - logits[y]).mean())
    target = RegionMargin(region, q, y)
    loss = max(float(losses.mean()), 0.0)
    return PixelMistake(kind, target, region, predicted, wanted, loss, margin, share.size)


def _strips(pair: Ints, said: Ints, true: Ints, band: int) -> Mask:
    """Return the wrong pixels between the two right classes, in strips at most `band` wide."""
    thin = (pair >= 0) & ~_thick(pair, band + 1)
    right = np.pad(np.where(said == true, said, -2), 1, constant_values=-2)
    around = sliding_window_view(right, (3, 3))
    beside = [(around == c[..., None, None]).any((2, 3)) for c in (said, true)]
    parts = components(np.where(thin, pair, -1))
    between = np.ones(int(parts.max()) + 1, dtype=bool)
    for touches in beside:
        between &= np.bincount(parts[thin & touches], minlength=between.size) > 0
    found = np.zeros_like(thin)
    found[thin] = between[parts[thin]]
    return found


def _thick(labels: Ints, side: int) -> Mask:
    """Return the pixels in some square of `side` pixels that has one label (an opening)."""
    if min(labels.shape) < side:
        return np.zeros(labels.shape, dtype=bool)
    least, most = (_sliding(labels, side, reduce) for reduce in (np.min, np.max))
    squares = np.pad((least == most) & (least >= 0), side - 1)
    return np.asarray(_sliding(squares, side, np.max))


def _sliding(values: npt.NDArray[Any], side: int, reduce: Any) -> npt.NDArray[Any]:
    for axis in (0, 1):
        values = reduce(sliding_window_view(values, side, axis=axis), axis=-1)
    return values
