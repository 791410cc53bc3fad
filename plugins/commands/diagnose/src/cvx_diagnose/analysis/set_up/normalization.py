"""Normalization of inputs: whether another usual one gives far better predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvx_core import CvxError, VisionModel
from cvx_diagnose.analysis.metrics.statistics import mcnemar

GAIN = 0.1
"""Increase of accuracy from which another normalization is reported."""

_SURE = 0.001
_NEAR = 0.02
"""Share of a range that values may lie beyond it, by resampling."""

_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

_FORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "0 to 255": (lambda x: x / 255, lambda u: u * 255),
    "0 to 1": (lambda x: x, lambda u: u),
    "-1 to 1": (lambda x: (x + 1) / 2, lambda u: u * 2 - 1),
    "by ImageNet's mean and standard deviation": (
        lambda x: x * _STD.to(x) + _MEAN.to(x),
        lambda u: (u - _MEAN.to(u)) / _STD.to(u),
    ),
}
"""Usual normalizations: from their values to 0 to 1, and back."""


def normalization_of(inputs: Sequence[Tensor]) -> str | None:
    """Return the usual normalization whose range the values (C, H, W) fill, or None.

    Examples
    --------
    >>> normalization_of([torch.tensor([0.0, 255.0, 90.0])[:, None, None]])
    '0 to 255'
    """
    for name, (to_unit, _) in _FORMS.items():
        if name.startswith("by") and len(inputs[0]) != 3:
            continue
        units = [to_unit(one.double()) for one in inputs]
        low, high = min(float(u.min()) for u in units), max(float(u.max()) for u in units)
        # At least half of the range must be used: 0 to 1 lies within 0 to 255 too.
        if -_NEAR <= low <= 0.25 and 0.75 <= high <= 1 + _NEAR:
            return name
    return None


def better_normalization(
    model: VisionModel, inputs: Sequence[Tensor], labels: Sequence[int]
) -> dict[str, Any] | None:
    """Return the usual normalization with which far more predictions are correct, or None.

    Parameters
    ----------
    inputs, labels
        (C, H, W) each, as they are now, and their classes.

    Returns
    -------
    dict or None
        ``now`` and ``better``, names; ``before`` and ``after``, accuracy; ``count`` of inputs; and
        McNemar's ``p``, times the number of those tried.
    """
    now = normalization_of(inputs) if inputs else None
    if now is None:
        return None
    true = np.array(labels)

    def correct(change: Callable[[Tensor], Tensor]) -> Any:
        found = []
        for one in inputs:
            try:
                found.append(int(model.logits(change(one)[None])[0].argmax()))
            except CvxError:
                found.append(-1)
        return np.array(found) == true

    before = correct(lambda x: x)
    others = [name for name in _FORMS if name != now]
    if len(inputs[0]) != 3:
        others = [name for name in others if not name.startswith("by")]
    tried = {name: correct(lambda x, n=name: _FORMS[n][1](_FORMS[now][0](x))) for name in others}  # type: ignore[misc]
    best = max(others, key=lambda name: int(tried[name].sum()))
    after = tried[best]
    fixed, broken = int((after & ~before).sum()), int((before & ~after).sum())
    p = min(1.0, mcnemar(fixed, broken) * len(others))
    if p >= _SURE or after.mean() - before.mean() < GAIN:
        return None
    return {
        "now": now,
        "better": best,
        "before": float(before.mean()),
        "after": float(after.mean()),
        "count": len(true),
        "p": p,
    }
