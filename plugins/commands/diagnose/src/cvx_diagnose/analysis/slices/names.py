"""Names of slices, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from cvx_core import printable
from cvx_diagnose.analysis.error_groups.names import Names
from cvx_diagnose.analysis.slices.candidates import Condition
from cvx_diagnose.analysis.slices.units import Units

Flags = npt.NDArray[np.bool_]

_CLEAR = 0.85
"""Area under the ROC curve from which a property names a cluster."""

_SIMILAR = "{} with similar features"


def slice_name(
    conditions: Sequence[Condition], noun: str, name: Names, phrase: str | None = None
) -> str:
    """Return a slice's name: what its units share.

    Parameters
    ----------
    conditions
        That it is defined by.
    noun
        What its units are called.
    name
        From a class index to its name.
    phrase
        Of a cluster, with ``{}`` for the noun.

    Examples
    --------
    >>> member = np.ones(3, dtype=bool)
    >>> dark = Condition("property", member, 1.0, member, {"property": "brightness"}, "dark {}")
    >>> produce = Condition("class", member, 1.0, member, {"class": 4})
    >>> slice_name([dark, produce], "images", {4: "produce"}.__getitem__)
    'dark images of produce'
    """
    classes = [name(one.rule["class"]) for one in conditions if one.kind == "class"]
    text = f"{noun} of {classes[0]}" if classes else noun
    phrases = [one.phrase for one in conditions if one.phrase]
    for one in [*phrases, *([phrase] if phrase else [])]:
        text = one.replace("{}", text, 1)
    return printable(text)


def slice_sentence(one: Mapping[str, Any]) -> str:
    """Return a slice's name with its accuracy on held-out inputs and that of the others.

    Parameters
    ----------
    one
        As in ``summary.json``.
    """
    inside, outside = one["inside"], one["outside"]
    return (
        f"{one['name']} ({one['count']:,}): accuracy {100 * inside['value']:.0f} % (95 % interval "
        f"{100 * inside['low']:.0f} to {100 * inside['high']:.0f} %), of the others "
        f"{100 * outside['value']:.0f} %"
    )


def cluster_phrase(units: Units, member: Flags, scope: Flags) -> str:
    """Return what the units of a cluster share, with ``{}`` for the noun.

    It is the property that tells them best from the other units of the scope, if it does so by an
    area under the ROC curve of 0.85.
    """
    at = np.flatnonzero(scope)
    values, inside = units.values[at], member[at]
    count, others = int(inside.sum()), int((~inside).sum())
    if not count or not others:
        return _SIMILAR
    ranks = rankdata(np.nan_to_num(values, nan=-np.inf), axis=0)
    area = (ranks[inside].sum(0) - count * (count + 1) / 2) / (count * others)
    # Simpler properties first.
    for preference in sorted({one.preference for one in units.properties}, reverse=True):
        of = [k for k, one in enumerate(units.properties) if one.preference == preference]
        best = max(of, key=lambda k: abs(area[k] - 0.5))
        if abs(area[best] - 0.5) >= _CLEAR - 0.5:
            one = units.properties[best]
            return f"mostly {one.high if area[best] > 0.5 else one.low}"
    return _SIMILAR
