"""Label issues of segmenters: missing and superfluous regions, and regions of a wrong class."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from cvx_diagnose.run.results import Run

KINDS = {"false positive": "missing", "false negative": "superfluous", "confusion": "wrong class"}
"""From a mistake of a segmenter to what is wrong if it is the label."""

DOUBTED = 0.9
"""Share of correct pixels among those that lead as much, above which a region is doubted."""

_SURE = 0.25
"""Share of the correct pixels of a class that lead less than a region that is doubted."""

SMALLEST = 0.002
"""Share of an image below which a region is not doubted."""

_FEWEST = 1000
"""Pixels of a class below which those of all classes stand for them."""


def find_region_issues(run: Run) -> list[dict[str, Any]]:
    """Return the label issues of a segmenter's run, the most doubtful first.

    A region is a connected part of an image whose pixels are wrong in the same way, not the border
    of an object. Its label is doubted if the network is as sure as where it is right: its pixels
    lead on average by more logits than a quarter of the correct pixels of the predicted class, and
    pixels that lead as much are nearly always correct, over all images of the run.

    Returns
    -------
    list of dict
        ``id``, ``path``, ``kind``, the ``box`` around the region in pixels of the image, ``label``
        and ``suggested`` class, ``pixels`` of the output, ``doubt``, the share of correct
        pixels among those of the predicted class that lead as much (isotonic regression), and
        ``lead``, the mean lead as a multiple of what a quarter of the correct pixels don't reach.
    """
    counts: dict[tuple[int, float], list[int]] = defaultdict(lambda: [0, 0])
    rows = []
    for table in run.blocks(["id", "path", "errors", "pixels", "leads"]):
        for row in table.to_pylist():
            for one in row["leads"] or ():
                for c in (one["predicted"], -1):
                    counts[c, one["lead"]][0] += one["count"]
                    counts[c, one["lead"]][1] += one["correct"]
            if row["errors"]:
                rows.append(row)
    curves = {
        c: curve for c in {key[0] for key in counts} if (curve := _curve(counts, c)) is not None
    }
    if -1 not in curves:
        return []
    usual = {c: _usual_lead(counts, c) for c in curves}
    found = []
    for row in rows:
        labeled = sum(one["count"] for one in row["pixels"])
        for one in row["errors"]:
            if one["type"] not in KINDS or one["pixels"] < SMALLEST * labeled:
                continue
            curve = curves.get(one["predicted"], curves[-1])
            doubt = float(curve.predict([one["margin"]])[0])
            lead = one["margin"] / max(usual.get(one["predicted"], usual[-1]), 1e-12)
            if doubt > DOUBTED and lead >= 1:
                found.append(
                    {
                        **{name: row[name] for name in ("id", "path")},
                        "kind": KINDS[one["type"]],
                        "box": one["box"],
                        "label": one["true"],
                        "suggested": one["predicted"],
                        "pixels": one["pixels"],
                        "doubt": doubt,
                        "lead": lead,
                    }
                )
    return sorted(found, key=lambda one: (-one["lead"], one["id"]))


def _usual_lead(counts: dict[tuple[int, float], list[int]], c: int) -> float:
    """Return the lead that a share of `_SURE` of a class's correct pixels do not reach."""
    leads = sorted(lead for of, lead in counts if of == c)
    correct = np.cumsum([counts[c, lead][1] for lead in leads], dtype=np.float64)
    return float(leads[int(np.searchsorted(correct, _SURE * correct[-1]))])


def _curve(counts: dict[tuple[int, float], list[int]], c: int) -> IsotonicRegression | None:
    """Return the share of correct pixels of a predicted class as a rising function of the lead."""
    leads = sorted(lead for of, lead in counts if of == c)
    totals = np.array([counts[c, lead] for lead in leads], dtype=np.float64)
    if totals[:, 0].sum() < _FEWEST and c != -1:
        return None
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    return fitted.fit(leads, totals[:, 1] / totals[:, 0], sample_weight=totals[:, 0])
