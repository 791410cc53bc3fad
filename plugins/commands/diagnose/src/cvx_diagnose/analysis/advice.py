"""What to fix first, in words, from what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cvx_diagnose.analysis.error_groups.names import Names, group_name, names_of, shortcut_name

_TESTED = 3
"""Errors of a group that must have been tested before a part of the image is what it is about."""

_SURE = 0.05
"""Chance below which a fix that helped is worth a line."""

_SMALL = 0.02
"""Share of the errors below which a group is not worth a line."""


def advise(found: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what to do, what may gain most first.

    Parameters
    ----------
    found
        What `cvx_diagnose.analysis.findings.find` put together so far.
    summary
        Of the run.

    Returns
    -------
    list of dict
        ``kind``, one of relabel, shortcut, mask, collect, retrain, threshold, repair; ``text``;
        ``count`` of inputs; ``gain``, share of the labelled inputs that would become right at most
        (measured, where it was tried); ``group``, where it is about one, and ``shortcut``.
    """
    name = names_of(summary["classes"])
    labelled = max(1, summary["right"]["of"])
    advice = []
    suspects = found["label_suspects"]["count"]
    if suspects:
        text = (
            f"Look at {_inputs(suspects)} whose label is suspected: the model is as sure of another"
            " class as it is of that class's own, and most images like them are labelled otherwise."
        )
        advice.append({"kind": "relabel", "text": text, "count": suspects})
    errors = sum(group["count"] for group in found["causes"])
    shortcuts = [one for one in (found["shortcuts"] or {"found": ()})["found"] if verified(one)]
    advice += [
        {
            "kind": "shortcut",
            "text": _for_shortcut(one, name),
            "count": one["count"],
            "group": one["groups"][0],
            "shortcut": one["number"],
        }
        for one in shortcuts
    ]
    result = {number for one in shortcuts for number in one["groups"]}
    for group in found["causes"]:
        if group["number"] in result or group["mixed"]:
            continue
        # What is mislabelled needs no fix of the model.
        own = group["count"] - group["label_suspects"]
        if own >= max(2, _SMALL * errors):
            advice.append({**_for_group(group, name), "count": own, "group": group["number"]})
    for one in found["fixes"]:
        if one["tried"] and one["low"] > 0 and one["p"] < _SURE:
            kind = "threshold" if "threshold" in one else "retrain"
            gain = max(0.0, one.get("gain", one["change"]))
            advice.append(
                {"kind": kind, "text": _for_fix(one), "count": one["fixed"], "gain": gain}
            )
    unread = sum(summary["counts"].values()) - summary["counts"]["ok"]
    if unread:
        text = f"Repair or remove {_inputs(unread)} that could not be answered."
        advice.append({"kind": "repair", "text": text, "count": unread, "gain": 0.0})
    for one in advice:
        one.setdefault("gain", one["count"] / labelled)
    return sorted(advice, key=lambda one: -one["gain"])


def _for_fix(one: Mapping[str, Any]) -> str:
    now = f"{100 * one['before']:.1f} %", f"{100 * one['after']:.1f} %"
    if "threshold" not in one:
        text = f"Train {one['name']}: on inputs it had not seen, {now[0]} right became {now[1]}"
        if one.get("restricted") is None:
            return f"{text}."
        share = f"{100 * one['restricted']:.1f} %"
        return f"{text} ({share} by the old one, if it may give only the classes of the data)."
    (score, better), (overlap, less) = one["threshold"], one["overlap"]
    text = f"Report boxes from a score of {better:g} (now {score:g})"
    if less != overlap:
        text += f", and suppress above an overlap of {less:g} (now {overlap:g})"
    return f"{text}: on images it was not chosen on, F1 rose from {now[0]} to {now[1]}."


def verified(shortcut: Mapping[str, Any]) -> bool:
    """Say whether a suspected shortcut stood the test."""
    return bool(shortcut["verdict"] == "verified")


def _for_shortcut(one: Mapping[str, Any], name: Names) -> str:
    pasted, carries = one["pasted"], one["carries"]
    text = (
        f"A shortcut, {shortcut_name(one, name)}: {one['count']:,} errors share a {one['shares']}. "
        f"Put {pasted['tried']} times into {pasted['images']} images that were right, it made "
        f"{pasted['turned']} wrong in the same way; parts as large from elsewhere made "
        f"{pasted['elsewhere']}. Cover it or cut "
        "it away, or train with it in images of every class."
    )
    if carries["lost"]:
        text += (
            f" Right answers may rest on it too: with other images' content in its place "
            f"{carries['lost']} of {carries['tried']} were lost."
        )
    return text


def _for_group(group: Mapping[str, Any], name: Names) -> dict[str, Any]:
    what = f"Group {group['number'] + 1}, {group_name(group, name)}"
    verified, tested = group["verified"], group["tested"]
    if tested >= _TESTED and 2 * verified > tested:
        text = (
            f"{what}: in {verified} of {tested} tested, it was verified that a part of the image "
            "makes the answer wrong. Mask it, or train with it in images of every class."
        )
        return {"kind": "mask", "text": text}
    text = f"{what}: collect more such images with their true class, or augment towards them."
    if not tested:
        text += " What causes it was not tested."
    return {"kind": "collect", "text": text}


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count:,} inputs"
