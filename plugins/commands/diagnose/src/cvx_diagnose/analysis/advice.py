"""Advice: what to fix first, from the findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cvx_diagnose.analysis.error_groups.groups import EXAMPLES
from cvx_diagnose.analysis.error_groups.names import Names, class_namer, group_name, shortcut_name
from cvx_diagnose.analysis.slices.names import slice_sentence

_TESTED = 3
"""Minimum number of tested errors in a group before masking a region is advised."""

_SURE = 0.05
"""p-value below which a fix that helped is listed."""

_SHOWN = 6
"""Maximum number of classes whose threshold a sentence has; ``summary.json`` has all."""

_SMALL = 0.02
"""Share of the errors below which a group is not listed."""


def advise(found: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what to do: the set-up, shortcuts, then proven gains, then possible ones.

    In each part the largest comes first. No sentence occurs twice.

    Parameters
    ----------
    found
        Findings of `cvx_diagnose.analysis.findings.collect_findings` so far.
    summary
        Of the run.

    Returns
    -------
    list of dict
        ``kind``, one of set-up, relabel, shortcut, mask, augment, collect, retrain, threshold,
        repair; ``text``; ``count`` of inputs; ``gain``, the largest possible increase of accuracy,
        of a slice that of the accuracy of the others, measured where it is ``proven``; ``group``,
        ``slice`` and ``shortcut``, where it is about one; ``examples``, ids of inputs, of near
        duplicates and files with different labels.
    """
    name = class_namer(summary["classes"])
    labeled = max(1, summary["accuracy"]["total"])
    advice = []
    issues = found["label_issues"]["count"]
    if issues:
        listed = found["label_issues"].get("listed", ())
        kinds = Counter(one["kind"] for one in listed if "kind" in one)
        text = (
            f"Check the labels of {_inputs(issues)}: by the other images they are probably of "
            "another class, and most similar images have another label."
        )
        if kinds:
            images = len({one["id"] for one in listed})
            shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
            text = f"Check the annotations of {_inputs(images)}: probably {shown}."
            issues = images
        advice.append({"kind": "relabel", "text": text, "count": issues})
    near = found["label_issues"].get("near_duplicates", [])
    if near:
        pairs = "1 pair of images is" if len(near) == 1 else f"{len(near):,} pairs of images are"
        text = f"{pairs} nearly the same and differ in their labels: {', '.join(near[0]['paths'])}."
        count, examples = 2 * len(near), _examples(near)
        advice.append(
            {"kind": "relabel", "text": text, "count": count, "gain": 0.0, "examples": examples}
        )
    conflicts = found["label_issues"].get("conflicts", [])
    if conflicts:
        files = "1 file occurs" if len(conflicts) == 1 else f"{len(conflicts):,} files occur"
        text = f"{files} several times with different labels: {', '.join(conflicts[0]['paths'])}."
        count = sum(len(one["ids"]) for one in conflicts)
        examples = _examples(conflicts)
        advice.append(
            {"kind": "relabel", "text": text, "count": count, "gain": 0.0, "examples": examples}
        )
    errors = sum(group["count"] for group in found["error_groups"])
    shortcuts = verified_shortcuts(found)
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
    advice += [
        {
            "kind": "augment" if one["fix"].startswith("augment") else "collect",
            "text": _for_slice(one),
            "count": one["count"],
            "gain": one["gain"],
            "slice": one["number"],
        }
        for one in found.get("slices", {"found": ()})["found"]
    ]
    covered = {number for one in shortcuts for number in one["groups"]}
    for group in found["error_groups"]:
        if group["number"] in covered or group["mixed"]:
            continue
        # A wrong label needs no fix of the model.
        own = group["count"] - group["label_issues"]
        if 2 * group.get("in_slices", 0) > own:
            continue
        if own >= max(2, _SMALL * errors):
            advice.append({**_for_group(group, name), "count": own, "group": group["number"]})
    for one in found["fixes"]:
        # F1 may rise while more images get worse; a temperature worsens none of the predictions.
        better = one["tried"] and (one["fixed"] > one["broken"] or "temperature" in one)
        if better and one["low"] > 0 and one["p"] < _SURE:
            tuned = not {"threshold", "thresholds", "offsets", "temperature"}.isdisjoint(one)
            kind = "threshold" if tuned else "retrain"
            gain = max(0.0, one["gain"] if "gain" in one else one["change"])
            advice.append(
                {"kind": kind, "text": _for_fix(one), "count": one["fixed"], "gain": gain}
            )
    unread = sum(summary["counts"].values()) - summary["counts"]["ok"]
    if unread:
        text = f"Repair or remove {_inputs(unread)} without a prediction."
        advice.append({"kind": "repair", "text": text, "count": unread, "gain": 0.0})
    for one in advice:
        one.setdefault("gain", one["count"] / labeled)
    first = [
        {
            "kind": "set-up",
            "text": f"{one['text']} {found['withheld']}".strip()
            if one["withholds"]
            else one["text"],
            "count": one["count"],
            "gain": one.get("gain", 0.0),
            "proven": one["kind"] in ("class order", "inputs") and "gain" in one,
        }
        for one in found.get("set_up", ())
    ]
    for one in advice:
        one["proven"] = one["kind"] in ("retrain", "threshold")
    # A shortcut makes correct predictions doubtful too: it comes before what costs more errors.
    effects = {one["number"]: one["transplants"].get("effect", 0.0) for one in shortcuts}

    def rank(one: Mapping[str, Any]) -> tuple[bool, float, bool, float]:
        effect = effects.get(one.get("shortcut", -1), 0.0)
        return one["kind"] != "shortcut", -effect, not one["proven"], -one["gain"]

    ranked = [*first, *sorted(advice, key=rank)]
    said: dict[str, dict[str, Any]] = {}
    for one in ranked:
        said.setdefault(one["text"], one)
    return list(said.values())


def _examples(found: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the ids of the images of the first few of several."""
    return list(dict.fromkeys(k for one in found[:EXAMPLES] for k in one["ids"]))


def _for_fix(one: Mapping[str, Any]) -> str:
    now = f"{100 * one['before']:.1f} %", f"{100 * one['after']:.1f} %"
    if "temperature" in one:
        errors = f"{100 - 100 * one['before']:.1f} % to {100 - 100 * one['after']:.1f} %"
        return (
            f"Divide the logits by {one['temperature']:.3g}: on held-out inputs the calibration "
            f"error went from {errors}."
        )
    if "thresholds" in one:
        return (
            f"Set the threshold of each label ({_values(one['thresholds'], 'g')}): on held-out "
            f"images F1 went from {now[0]} to {now[1]}."
        )
    if "offsets" in one:
        text = (
            f"Move the threshold of each class: add to the logits {_values(one['offsets'], '+g')}; "
            f"on held-out images the mean IoU went from {now[0]} to {now[1]}"
        )
        return text + _weights_of(one)
    if "worst_group" in one or "relabeled" in one:
        what = one["name"].removeprefix("retraining").strip()
        text = f"Retrain {what}: on held-out inputs {one['measure']} went from {now[0]} to {now[1]}"
        return text + _weights_of(one)
    if "threshold" not in one:
        text = f"Retrain the last layer: on held-out inputs accuracy went from {now[0]} to {now[1]}"
        if one.get("restricted") is None:
            return text + _weights_of(one)
        share = f"{100 * one['restricted']:.1f} %"
        return f"{text} ({share} by the old one, restricted to the classes of the data)."
    (score, better), (overlap, less) = one["threshold"], one["overlap"]
    text = f"Set the score threshold to {better:g} (now {score:g})"
    if less != overlap:
        text += f", and the overlap for suppression to {less:g} (now {overlap:g})"
    return f"{text}: on held-out images F1 went from {now[0]} to {now[1]}."


def _values(by_name: Mapping[str, float], form: str) -> str:
    """Return numbers with their names, the first few."""
    shown = ", ".join(f"{name} {value:{form}}" for name, value in [*by_name.items()][:_SHOWN])
    left = len(by_name) - _SHOWN
    return f"{shown} and {left:,} others" if left > 0 else shown


def _weights_of(one: Mapping[str, Any]) -> str:
    return f". Its weights are in {one['weights']} (--weights)." if one.get("weights") else "."


def verified_shortcuts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the verified shortcuts of a summary."""
    found = (summary["shortcuts"] or {"found": ()})["found"]
    return [one for one in found if one["verdict"] == "verified"]


def _for_shortcut(one: Mapping[str, Any], name: Names) -> str:
    transplants, replacements = one["transplants"], one["replacements"]
    effects = ""
    if "effect" in transplants:
        effects = (
            f" Its effect is {100 * transplants['effect']:.0f} % against "
            f"{100 * transplants['control_effect']:.0f} % (95 % interval of the difference "
            f"{100 * transplants['low']:.0f} to {100 * transplants['high']:.0f} points)."
        )
    text = (
        f"Shortcut, {shortcut_name(one, name)}: {one['count']:,} errors share a {one['shared']}."
        f"{effects} Pasted {transplants['count']} times into {transplants['images']} correctly "
        f"predicted images, it made {transplants['flipped']} of them wrong in the same way "
        f"(control regions of the same size: {transplants['control_flipped']}). Cover it or crop "
        "it, or train with it in images of every class."
    )
    if replacements["lost"]:
        text += (
            " Correct predictions may depend on it too: after replacing it with content of other "
            f"images {replacements['lost']} of {replacements['count']} were lost."
        )
    return text


def _for_group(group: Mapping[str, Any], name: Names) -> dict[str, Any]:
    what = f"Group {group['number'] + 1}, {group_name(group, name)}"
    verified, tested = group["verified"], group["tested"]
    if tested >= _TESTED and 2 * verified > tested:
        text = (
            f"{what}: in {verified} of {tested} tested errors a region verifiably causes the wrong "
            "prediction. Mask it, or train with it in images of every class."
        )
        return {"kind": "mask", "text": text}
    return {"kind": "collect", "text": f"{what}: collect {group['count']:,} or more such images."}


def _for_slice(one: Mapping[str, Any]) -> str:
    fix = one["fix"] or "collect more such images"
    return f"{fix[0].upper()}{fix[1:]}: {slice_sentence(one)}."


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count:,} inputs"
