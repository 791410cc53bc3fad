"""Page data: images, methods, targets and maps as JSON values."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvx_core import printable
from cvx_core.explanations import INFERNO, VIK, Explanation, Metadata, show
from cvx_html.images import embed, fit

CANVAS = 640
"""Longest side in pixels of the canvas of a map. Color limits and smoothing are computed at this
size, so that the page needs no statistics of its own."""

_FIRST = ("sum",)
_COST = ("forwards", "backwards", "bytes", "batch", "seconds")
"""Evidence that is listed first, and the cost of the map, which is part of the provenance here."""


def describe(explanations: Sequence[Explanation], longest: int) -> dict[str, Any]:
    """Return the page's data.

    Parameters
    ----------
    explanations
        At least one, in the order of the run.
    longest
        Longest side of an embedded image in pixels.

    Returns
    -------
    dict
        ``tables``: the colours, base64 of 256 x 3 bytes; ``methods``: names; ``photos``: data
        URIs; ``images``: the prediction for each, with the number of its photo;
        ``maps``: each with the numbers of its image and method, its values as base64 of float32,
        little-endian, by rows, exact, and its display settings on a canvas of `CANVAS` pixels.
    """
    photos: dict[str, int] = {}
    uris: list[str] = []
    images: dict[tuple[Any, ...], dict[str, Any]] = {}
    asked: list[_Asked] = []
    maps: list[dict[str, Any]] = []
    # One pass that keeps no pixels: the explanations of a long run are read from disk.
    for explanation in explanations:
        digest = hashlib.sha256(
            repr(explanation.image.shape).encode() + explanation.image.tobytes()
        ).hexdigest()
        if digest not in photos:
            photos[digest] = len(uris)
            uris.append(embed(explanation.image, longest))
        # Another model's prediction for the same image is another entry of the page. Scores are
        # not part of the key: two recordings of one model may differ in the last bit.
        key = (
            digest,
            explanation.name,
            explanation.provenance.get("model"),
            explanation.provenance.get("weights_sha256"),
            # For detectors and segmenters, `predicted` depends on the target.
            explanation.target.predicted.index if _whole(explanation) else None,
        )
        if key not in images:
            images[key] = _image(explanation, photos[digest], len(images))
        if not (images[key]["label"] or images[key]["truth"]):
            images[key] |= _verdict(explanation)
        number = images[key]["number"]
        asked.append(
            _Asked(explanation.method, _settings(explanation), number, explanation.target.text)
        )
        values = {"values": _base64(explanation.values.astype("<f4"))}
        maps.append({"image": number, "method": 0, **values, **_legible(_map(explanation))})
    methods = _method_names(asked)
    names = list(dict.fromkeys(methods))
    for one, method in zip(maps, methods, strict=True):
        one["method"] = names.index(method)
    return {
        "tables": {"signed": _base64(VIK), "unsigned": _base64(INFERNO)},
        "methods": _legible(names),
        "photos": uris,
        "images": _legible(list(images.values())),
        "maps": maps,
    }


def _image(explanation: Explanation, photo: int, number: int) -> dict[str, Any]:
    height, width = explanation.image.shape[:2]
    target = explanation.target
    canvas = fit((width, height), CANVAS, enlarge=True)
    return {
        "number": number,
        "name": explanation.name or f"image {number}",
        "photo": photo,
        "size": [width, height],
        "canvas": list(canvas),
        "model": explanation.model_text,
        "whole": _whole(explanation),
        # Of the outputs, which scores are in.
        "unit": "logits" if target.predicted.probability is not None else target.predicted.unit,
        "predicted": vars(target.predicted),
        "reported": None if target.reported is None else [d.to_dict() for d in target.reported],
        **_verdict(explanation),
    }


def _whole(explanation: Explanation) -> bool:
    """Whether there is one prediction for the whole image, whatever the target."""
    return bool(explanation.provenance.get("whole_image", explanation.target.reported is None))


def _verdict(explanation: Explanation) -> dict[str, Any]:
    target = explanation.target
    if not _whole(explanation):
        return {"label": None, "truth": "", "correct": None}
    label = vars(target.label) if target.label else None
    return {"label": label, "truth": target.truth, "correct": target.correct}


def _map(explanation: Explanation) -> dict[str, Any]:
    height, width = explanation.image.shape[:2]
    shown = show(explanation, fit((width, height), CANVAS, enlarge=True))
    target = explanation.target
    unique = target.kind in ("predicted", "distribution", "error", "margin")
    notes = (*explanation.cautions, target.note, explanation.provenance.get("display_note"))
    return {
        "target": target.text,
        "top": [vars(entry) for entry in target.top],
        "box": None if target.box is None else list(target.box),
        # The same target stays selected when the image is switched.
        "same": target.kind if unique else target.asked or target.text,
        # A map that does not depend on the target has no score.
        "score": None if explanation.evidence.get("class_specific") is False else target.score,
        "extent": list(explanation.extent),
        "shape": list(explanation.values.shape),
        "signed": explanation.signed,
        "unit": explanation.unit,
        "low": shown.limits.low,
        "high": shown.limits.high,
        "ends": list(shown.ends),
        "sigma": shown.sigma,
        "notes": [str(note) for note in notes if note],
        "drawing": shown.note,
        "evidence": _evidence(explanation),
        "provenance": [*_flat(explanation.provenance), *_cost(explanation)],
    }


@dataclass(frozen=True)
class _Asked:
    """What an explanation is of: method with its settings, number of the image, target."""

    method: str
    settings: dict[str, str]
    image: int
    target: str


def _method_names(asked: list[_Asked]) -> list[str]:
    """Return a name for each explanation's method that distinguishes its settings.

    A method that occurs with several settings gets the parameters that differ, and one that
    explains the same target of the same image twice gets a number.
    """
    settings: dict[str, list[dict[str, str]]] = {}
    for one in asked:
        known = settings.setdefault(one.method, [])
        if one.settings not in known:
            known.append(one.settings)
    names = []
    seen: Counter[tuple[Any, ...]] = Counter()
    for one in asked:
        mine, others = one.settings, settings[one.method]
        differing = [key for key in mine if any(other.get(key) != mine[key] for other in others)]
        name = one.method
        if differing:
            name += " (" + ", ".join(f"{key}={mine[key]}" for key in differing) + ")"
        again = (name, one.image, one.target)
        seen[again] += 1
        names.append(name if seen[again] == 1 else f"{name} #{seen[again]}")
    return names


def _settings(explanation: Explanation) -> dict[str, str]:
    parameters = explanation.provenance.get("parameters")
    if not isinstance(parameters, Metadata):
        return {}
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in sorted(parameters.to_dict().items())
    }


def _evidence(explanation: Explanation) -> list[tuple[str, Any]]:
    hidden = _COST if explanation.additive else (*_COST, "sum")
    pairs = [pair for pair in _flat(explanation.evidence) if pair[0] not in hidden]
    return sorted(pairs, key=lambda pair: (pair[0] not in _FIRST, pair[0]))


def _cost(explanation: Explanation) -> list[tuple[str, Any]]:
    evidence = explanation.evidence
    return [(f"cost.{key}", evidence[key]) for key in _COST if key in evidence]


def _flat(record: Metadata) -> list[tuple[str, Any]]:
    """Return nested records as pairs with dotted names, sorted; lists stay as they are."""
    pairs: list[tuple[str, Any]] = []
    for key in sorted(record):
        value = record[key]
        if isinstance(value, Metadata) and len(value):
            pairs += [(f"{key}.{inner}", deep) for inner, deep in _flat(value)]
        elif value != "":
            pairs.append((key, Metadata({"value": value}).to_dict()["value"]))
    return pairs


def _legible(value: Any) -> Any:
    """Make text printable, and replace non-finite numbers, which JSON lacks, by None."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _legible(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_legible(item) for item in value]
    return value


def _base64(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
