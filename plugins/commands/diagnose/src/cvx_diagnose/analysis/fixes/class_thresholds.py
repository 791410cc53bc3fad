"""Thresholds of a segmenter, one for each class: constants added to its logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import wilcoxon

from cvx_core import CvxError, Frame, SegmentationPrediction, TargetError
from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.fixes.halves import in_first_half
from cvx_diagnose.analysis.fixes.saved_head import save_offsets
from cvx_diagnose.analysis.metrics.statistics import BOOTSTRAP_SAMPLES, shuffle_ids
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import OK
from cvx_diagnose.run.work import DiagnosisWork

Numbers = npt.NDArray[Any]

STEPS = np.arange(-20, 21) / 4
"""Constants that are tried for a class, in logits."""

_FEWEST = 20
_FEWEST_OF_CLASS = 5
"""Minimum number of images with a class from which its constant is tuned."""

_MOST = 500
"""Maximum number of images of each half that are predicted again."""

_PIXELS, _VALUES = 2048, 2**25
"""Maximum number of pixels of an image, and of logits of all, that constants are tuned on."""

_ROUNDS = 4
"""How often the constants of all classes are tuned, one class after the other."""


def try_class_thresholds(run: Run, work: DiagnosisWork | None) -> dict[str, Any]:
    """Choose a constant for each class on one half of the images, and evaluate on the other.

    The logits of a class are moved by its constant, which for two classes is another threshold
    of the probability. Chosen are those with the best mean of the intersection over union
    over the classes, on a sample of the pixels of up to 500 images. Copies of a file are in one
    half. A class that occurs in fewer than 5 images keeps its logits.

    Returns
    -------
    dict
        As of `.last_layer.try_fixes`, where ``before``, ``after``, ``change`` and its interval are
        of the mean IoU over all pixels of up to 500 images of the other half, and an image is
        ``fixed`` whose own mean IoU rose; ``p`` of Wilcoxon's signed-rank test of these;
        ``offsets``, the constants by the name of the class; ``weights``, the file of the network
        with the constants in the bias of its last layer.
    """
    name = "a threshold for each class"
    table = run.table(["id", "sha256", "pixels"], status=OK)
    rows = [row for row in table.to_pylist() if row["pixels"]]
    if work is None or len(rows) < _FEWEST:
        note = f"It needs {_FEWEST} labeled images, got {len(rows)}."
        return {"name": name, "tried": False, "note": note}
    first = in_first_half([row["id"] for row in rows], [row["sha256"] for row in rows])
    halves = [
        shuffle_ids([row["id"] for row, one in zip(rows, first, strict=True) if one == half])[
            :_MOST
        ]
        for half in (True, False)
    ]
    offsets = _tuned(work, halves[0])
    counts = [
        one
        for k in halves[1]
        if offsets is not None and (one := _evaluated(work, k, offsets)) is not None
    ]
    if offsets is None or not counts:
        note = "The images of the run can't be read any more."
        return {"name": name, "tried": False, "note": note}
    change = _iou_change(np.array(counts))
    called = class_namer(run.plan.classes)
    chosen = {called(int(c)): float(offsets[c]) for c in np.flatnonzero(offsets)}
    return {
        "name": name,
        "tried": True,
        "measure": "mean IoU",
        "trained_on": len(halves[0]),
        "evaluated_on": len(counts),
        "offsets": chosen,
        **change,
        "weights": save_offsets(run, work, offsets, halves[0][0]) if change["low"] > 0 else None,
    }


def _predicted(work: DiagnosisWork, number: int) -> tuple[SegmentationPrediction, Numbers] | None:
    """Return the prediction and the true classes (h, w) of an input; None if it can't be read."""
    try:
        decoded = work.decode(work.manifest.find(number))
        values = torch.from_numpy(decoded.values)
        height, width = values.shape[1:]
        extent = decoded.extent or (0.0, 0.0, float(width), float(height))
        frame = Frame(extent, (width, height), decoded.size)
        model = work.model
        output = model.output(values[None].to(model.device, model.dtype))
        [prediction] = model.predictions(output, [frame])
        if not isinstance(prediction, SegmentationPrediction) or decoded.ground_truth is None:
            return None
        truth: Any = decoded.ground_truth
        return prediction, truth.on_grid(frame, prediction.shape, prediction.count)
    except (CvxError, TargetError):
        return None


def _tuned(work: DiagnosisWork, ids: list[int]) -> Numbers | None:
    """Return the best constant of each class (C,) on a sample of the pixels of images.

    None if no image can be read.
    """
    logits, true, weights, images = [], [], [], []
    for number in ids:
        found = _predicted(work, number)
        if found is None or not (found[1] >= 0).any():
            continue
        prediction, classes = found
        most = min(_PIXELS, max(64, _VALUES // (len(ids) * prediction.count)))
        at = np.flatnonzero(classes.ravel() >= 0)
        drawn = np.random.default_rng(number).choice(at, min(len(at), most), replace=False)
        logits.append(
            prediction.logits.reshape(prediction.count, -1)[:, drawn].T.astype(np.float32)
        )
        true.append(classes.ravel()[drawn])
        weights.append(np.full(len(drawn), len(at) / len(drawn)))
        images.append(np.bincount(np.unique(classes[classes >= 0]), minlength=prediction.count))
    if not images:
        return None
    several = np.array(images).sum(0)
    return best_offsets(
        np.concatenate(logits),
        np.concatenate(true),
        np.concatenate(weights),
        np.flatnonzero(several >= _FEWEST_OF_CLASS),
    )


def best_offsets(logits: Numbers, true: Numbers, weights: Numbers, classes: Numbers) -> Numbers:
    """Return the constants (C,) with the best mean IoU, one class tuned after the other.

    Parameters
    ----------
    logits, true, weights
        (n, C), (n,) and (n,): pixels, their classes, and how many each stands for.
    classes
        That are tuned. Of two only the second is: their difference alone matters.
    """
    offsets = np.zeros(logits.shape[1])
    for _ in range(_ROUNDS):
        before = offsets.copy()
        for c in classes.tolist():
            if len(offsets) > 2 or c == 1:
                offsets[c] = _best_offset(logits + offsets, true, weights, c, offsets[c])
        if (offsets == before).all():
            break
    return offsets


def _best_offset(logits: Numbers, true: Numbers, weights: Numbers, c: int, now: float) -> float:
    """Return the best constant of a class, whose logits are moved by `now`; of equals the least."""
    count = logits.shape[1]
    own, others = logits[:, c] - now, logits.copy()
    others[:, c] = -np.inf
    rival = others.argmax(1)
    # The constant from which a pixel is of the class, as an index of `STEPS`.
    step = np.searchsorted(STEPS, others.max(1) - own, side="right")

    def moved(classes: Numbers, which: Numbers) -> Numbers:
        """Return the pixels of each class that are of this class from each step on, (S, C)."""
        keys = step[which] * count + classes[which]
        found = np.bincount(keys, weights[which], count * (len(STEPS) + 1))
        cumulated: Numbers = found.reshape(-1, count).cumsum(0)
        return cumulated[:-1]

    every = np.ones(len(true), dtype=bool)
    totals = np.bincount(true, weights, count)
    both = np.bincount(true, weights * (rival == true), count) - moved(true, rival == true)
    said = np.bincount(rival, weights, count) - moved(rival, every)
    both[:, c], said[:, c] = moved(true, true == c)[:, c], moved(true, every).sum(1)
    value = _mean_iou(both, totals + said - both, totals > 0)
    return float(min(STEPS[np.isclose(value, value.max(), rtol=0, atol=1e-9)], key=abs))


def _evaluated(work: DiagnosisWork, number: int, offsets: Numbers) -> Numbers | None:
    """Return pixels of each class in an image: true, and found and in the union, before and after.

    (5, C), in the order true, found before, union before, found after, union after.
    """
    found = _predicted(work, number)
    if found is None or not (found[1] >= 0).any():
        return None
    prediction, classes = found
    at, count = classes >= 0, prediction.count
    true = np.bincount(classes[at], minlength=count)
    parts = [true]
    for said in (prediction.predicted, (prediction.logits + offsets[:, None, None]).argmax(0)):
        both = np.bincount(classes[at][said[at] == classes[at]], minlength=count)
        parts += [both, true + np.bincount(said[at], minlength=count) - both]
    return np.array(parts)


def _mean_iou(both: Numbers, union: Numbers, known: Numbers) -> Numbers:
    """Return the mean intersection over union over the known classes of the last axis."""
    shares = np.where(known, both / np.maximum(union, 1e-12), 0.0)
    found: Numbers = shares.sum(-1) / np.maximum(known.sum(-1), 1)
    return found


def _iou_change(counts: Numbers) -> dict[str, Any]:
    """Return how much the mean IoU changed; the interval is of the bootstrap over images.

    Parameters
    ----------
    counts
        (n, 5, C), as of `_evaluated`.
    """
    n = len(counts)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), BOOTSTRAP_SAMPLES)

    def means(of: Numbers) -> tuple[Numbers, Numbers]:
        known = of[..., 0, :] > 0
        return tuple(  # type: ignore[return-value]
            _mean_iou(of[..., k, :], of[..., k + 1, :], known) for k in (1, 3)
        )

    before, after = means(counts.sum(0))
    was, now = means(np.einsum("sn,nkc->skc", drawn, counts))
    own, new = means(counts)
    fixed, broken = int((new > own).sum()), int((new < own).sum())
    return {
        "before": float(before),
        "after": float(after),
        "change": float(after - before),
        "low": float(np.quantile(now - was, 0.025)),
        "high": float(np.quantile(now - was, 0.975)),
        "fixed": fixed,
        "broken": broken,
        "p": float(wilcoxon(new, own).pvalue) if fixed + broken else 1.0,
    }
