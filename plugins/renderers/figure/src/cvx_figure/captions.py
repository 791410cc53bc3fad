"""Title, prediction line and caption of an explanation in a figure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from unicodedata import bidirectional

import numpy as np

from cvx_core import printable
from cvx_core.explanations import Explanation, Shown
from cvx_core.tasks import ClassEntry, TargetRecord

_DOT = "\N{NO-BREAK SPACE}· "  # stays at the end of a line

MINUS = "\N{MINUS SIGN}"
LONGEST_NAME = 60
"""Longer names are cut, so that both classes of a contrast fit in a title."""


MOST_BOXES = 6
"""Maximum number of a detector's boxes in the prediction line."""


@dataclass(frozen=True)
class Caption:
    """The texts of one explanation.

    Attributes
    ----------
    title
        Method and target.
    prediction
        The model's prediction, the label, and whether they agree.
    caption
        Model, image, layer, evidence and display settings.
    unit
        Unit of the color bar.
    """

    title: str
    prediction: str
    caption: str
    unit: str


def make_caption(explanation: Explanation, shown: Shown, color_note: str = "") -> Caption:
    """Return the texts of one explanation."""
    return Caption(
        title=f"{_short(explanation.method)}: {_target(explanation)}",
        prediction=_prediction(explanation),
        caption=_DOT.join(part for part in _caption(explanation, shown, color_note) if part),
        unit=_short(explanation.unit),
    )


def framed(explanation: Explanation) -> bool:
    """Return whether preprocessing cropped the image."""
    height, width = explanation.image.shape[:2]
    left, top, right, bottom = explanation.extent
    return bool(max(left, top, width - right, height - bottom) >= 0.5)


def number(value: float) -> str:
    """Return a number with three significant digits and a true minus sign."""
    return f"{value:.3g}".replace("-", MINUS)


def _short(text: str) -> str:
    text = printable(text)
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1].rstrip() + "…"
    # Without the mark a number behind a name in Arabic or Hebrew would be drawn before it.
    leftwards = any(bidirectional(character) in ("R", "AL") for character in text)
    return text + "\N{LEFT-TO-RIGHT MARK}" if leftwards else text


def _target(explanation: Explanation) -> str:
    target = explanation.target
    text = target.text
    named = [*target.classes, target.predicted, *([target.label] if target.label else [])]
    for name in sorted({entry.name for entry in named}, key=len, reverse=True):
        if name and _short(name) != name:
            text = text.replace(name, _short(name))
    return printable(text)


def _prediction(explanation: Explanation) -> str:
    target = explanation.target
    if target.reported is not None:
        return _reported(target)
    parts = [f"prediction: {_entry(target.predicted)}"]
    if target.truth or target.label is not None:
        parts.append(f"label: {_short(target.truth) or _entry(target.label)}")  # type: ignore[arg-type]
    if target.correct is not None:
        parts.append("✓\N{NO-BREAK SPACE}correct" if target.correct else "✗\N{NO-BREAK SPACE}wrong")
    if explanation.evidence.get("class_specific") is False:
        return _DOT.join(parts)  # such a map has no target class
    said = {target.predicted.index, *([target.label.index] if target.label else [])}
    asked = [entry for entry in target.classes if entry.index not in said]
    if asked:
        # Of a contrast the first class is the target, and the second what it is compared with.
        word = "target" if asked[0] is target.classes[0] else "against"
        parts.append(f"{word}: " + ", ".join(map(_entry, asked)))
    return _DOT.join(parts)


def _reported(target: TargetRecord) -> str:
    """Return a detector's boxes, and the target class if no reported box has it."""
    found = target.reported or ()
    parts = [
        "prediction: " + (", ".join(_entry(one.entry) for one in found[:MOST_BOXES]) or "no box")
    ]
    if len(found) > MOST_BOXES:
        parts.append(f"{len(found) - MOST_BOXES} more boxes")
    said = {(one.entry.index, one.box) for one in found}
    asked = [_entry(e) for e in target.classes if (e.index, target.box) not in said]
    if asked:
        parts.append("target: " + ", ".join(asked))
    return _DOT.join(parts)


def _entry(entry: ClassEntry) -> str:
    return replace(entry, name=_short(entry.name)).text


def _caption(explanation: Explanation, shown: Shown, color_note: str) -> list[str]:
    rows, columns = explanation.values.shape
    height, width = explanation.image.shape[:2]
    evidence, provenance = explanation.evidence, explanation.provenance
    layer = provenance.get("layer")
    total = float(explanation.values.sum(dtype=np.float64))
    parts = [
        *(printable(caution).rstrip(".") for caution in explanation.cautions),
        _short(explanation.model_text),
        f"{_short(explanation.name) or 'image'}, {width} \N{MULTIPLICATION SIGN} {height} pixels",
        f"layer: {_short(str(layer))}" if layer else "",
        f"map of {columns} \N{MULTIPLICATION SIGN} {rows} positions",
        f"sum {number(total)} {_short(explanation.unit)}".rstrip() if explanation.additive else "",
    ]
    residual = _finite(evidence.get("residual"))
    if residual is not None:
        parts.append(f"residual {number(residual)}")
    for lost in evidence.get("unconserved") or ():
        missing = number(lost["missing"])
        parts.append(f"{missing} {_short(explanation.unit)} lost in {_short(lost['module'])}")
    if evidence.get("unconserved_reason"):
        parts.append(printable(str(evidence["unconserved_reason"])))
    for one in evidence.get("held") or ():
        where = f"{_short(one['function'])} in {_short(one['module'])}"
        carried = f"{number(one['carries'])} {_short(explanation.unit)}"
        parts.append(f"{carried} of the constant part is relevance absorbed by {where}")
    correlation = _finite(evidence.get("pearson_r"))
    if correlation is not None:
        parts.append(f"correlation with the first-order estimate {number(correlation)}")
    parts.append(_balance(explanation, total))
    if evidence.get("class_specific") is False and not explanation.target.note:
        parts.append("the map does not depend on the target")
    if not explanation.values.any():
        parts.append("the map is zero everywhere")
    if framed(explanation):
        parts.append("the white frame marks the network's input")
    if explanation.target.box is not None:
        parts.append("the yellow box is the target")
    notes = (shown.note, color_note, explanation.target.note, provenance.get("display_note"))
    return parts + [printable(str(note)).rstrip(".") for note in notes if note]


def _balance(explanation: Explanation, total: float) -> str:
    """Return the relation of the map's sum to the score that it explains."""
    evidence, unit = explanation.evidence, _short(explanation.unit)
    whole, constants = (_finite(evidence.get(key)) for key in ("total", "constant_part"))
    share = _finite(evidence.get("non_pixel_share"))
    if whole is not None and constants is not None:
        terms = [("constants", constants)]
        tokens = _finite(evidence.get("other_tokens"))
        if tokens:
            terms.append(("other tokens", tokens))
        sizes = [abs(value) for value in (total, whole, *(value for _, value in terms))]
        text = _two if max(sizes) >= 0.1 else number
        named = ", ".join(f"{name} {text(value)} {unit}".rstrip() for name, value in terms)
        parts = "".join(f" {'+' if v >= 0 else MINUS} {text(abs(v))}" for _, v in terms)
        # A gap of a hundredth is more than rounding, so the sum is not written as an equation.
        gap = abs(whole - total - sum(value for _, value in terms))
        equal = "=" if gap <= 0.01 * max(sizes) else "\N{NOT EQUAL TO}"
        return f"{named}: {text(total)}{parts} {equal} {text(whole)}"
    if share is not None:
        return f"{number(100 * share)} % of the relevance has no spatial position"
    score = explanation.target.score
    if explanation.provenance.get("order") == "first" and abs(total - score) > 0.05 * abs(score):
        said = f"first-order estimate; its sum may differ from the score, {number(score)} {unit}"
        return said.rstrip()
    return ""


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
