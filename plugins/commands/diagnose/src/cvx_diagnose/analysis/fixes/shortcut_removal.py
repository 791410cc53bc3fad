"""Last layer retrained on copies of images with and without a shortcut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import CvxError
from cvx_diagnose.analysis.error_groups.groups import ErrorGroups
from cvx_diagnose.analysis.error_groups.names import class_namer, shortcut_name
from cvx_diagnose.analysis.fixes.halves import Halves, accuracy_change, train_head
from cvx_diagnose.analysis.fixes.saved_head import save_head
from cvx_diagnose.analysis.metrics.statistics import shuffle_ids
from cvx_diagnose.analysis.shortcuts.correct_images import RunInputs
from cvx_diagnose.analysis.shortcuts.transplants import Donor, evidence_boxes, paste
from cvx_diagnose.run.inference.model_probe import predict_with_features
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork

Numbers = npt.NDArray[Any]

COPIES = 120
"""Maximum number of copies with the pasted part, in each half."""

_DONORS = 12
_FEWEST = 10
_WEIGHT = 4
"""How often each copy is repeated, so that copies count beside the images as they are."""


def try_without_shortcut(
    run: Run,
    work: DiagnosisWork,
    halves: Halves,
    shortcut: Mapping[str, Any],
    error_groups: ErrorGroups,
) -> dict[str, Any]:
    """Retrain the last layer so that it does without a shortcut, and evaluate on the other half.

    Deep feature reweighting (Kirichenko et al., ICLR 2023): the features stay, and the last layer
    learns from images in which the part and the class are independent. Here these are copies: of
    images of all classes with the part pasted, and of errors with the part replaced. Parts and
    images for training are of one half, those for the evaluation of the other.

    Returns
    -------
    dict
        As of `.last_layer.try_fixes`, where ``before``, ``after``, ``change`` and its interval are
        the accuracy on held-out images with the part pasted; ``worst_group`` has the lower of this
        accuracy and that on held-out images as they are, before and after; ``gain`` is the change
        of the latter.
    """
    name = class_namer(run.plan.classes)
    called = f"retraining the last layer without the shortcut {shortcut_name(shortcut, name)}"
    try:
        found = _tried(run, work, halves, shortcut, error_groups)
    except CvxError as error:
        found = str(error)
    if isinstance(found, str):
        return {"name": called, "tried": False, "note": found}
    return {"name": called, **found}


def _tried(
    run: Run,
    work: DiagnosisWork,
    halves: Halves,
    shortcut: Mapping[str, Any],
    error_groups: ErrorGroups,
) -> dict[str, Any] | str:
    inputs = RunInputs(run, work)
    members = np.isin(error_groups.groups, shortcut["groups"])
    errors = set(error_groups.ids[members].tolist())
    maps = _maps(run, errors)
    sides = [_copies(inputs, halves, half, errors, maps) for half in (halves.train, halves.test)]
    if any(len(one) < _FEWEST for one, _ in sides):
        return f"It needs {_FEWEST} correct images and a localized part in both halves."
    (pasted, labels), (held_out, held_labels) = sides
    cleaned, cleaned_labels = _cleaned(inputs, halves, errors, maps)
    features = _features(work, [*pasted, *cleaned])[0] / halves.scale
    more = np.concatenate([labels, cleaned_labels])
    train, test = halves.train, halves.test
    head = train_head(
        np.concatenate([halves.features[train], *[features] * _WEIGHT]),
        np.concatenate([halves.labels[train], *[more] * _WEIGHT]),
    )
    test_features, logits = _features(work, held_out)
    now = head.predict(test_features / halves.scale) == held_labels
    was = logits.argmax(1) == held_labels
    plain = head.predict(halves.features[test]) == halves.labels[test]
    change = accuracy_change(was, now)
    before, after = float(halves.correct[test].mean()), float(plain.mean())
    helped = change["low"] > 0 and after >= before - 0.01
    return {
        "tried": True,
        "measure": "accuracy with the part pasted",
        "trained_on": len(train) + len(more),
        "evaluated_on": len(held_out),
        **change,
        "worst_group": [min(before, change["before"]), min(after, change["after"])],
        "plain": [before, after],
        "gain": after - before,
        "shortcut": shortcut["number"],
        "weights": save_head(run, work, halves, head, f"without-shortcut-{shortcut['number'] + 1}")
        if helped
        else None,
    }


def _maps(run: Run, errors: set[int]) -> dict[int, Numbers]:
    table = run.table(["id", "margin_map"], wrong=True)
    drawn = run.numbers(table, "margin_map")
    return {k: drawn[i] for i, k in enumerate(table["id"].to_pylist()) if k in errors}


def _donors(
    inputs: RunInputs, ids: Sequence[int], maps: Mapping[int, Numbers]
) -> list[tuple[int, Donor]]:
    """Return some errors with the part that their maps blame, and their ids."""
    position = {int(k): at for at, k in enumerate(inputs.ids)}
    found: list[tuple[int, Donor]] = []
    for k in shuffle_ids(list(ids)):
        boxes = evidence_boxes(maps[k]) if k in maps else None
        values = None if boxes is None else inputs.values(position[k])
        if values is not None and boxes is not None:
            found.append((k, (values, *boxes)))
        if len(found) == _DONORS:
            break
    return found


def _copies(
    inputs: RunInputs, halves: Halves, half: Numbers, errors: set[int], maps: Mapping[int, Numbers]
) -> tuple[list[Tensor], Numbers]:
    """Return images of a half, correct as they are, with the part of its errors, and their classes.

    The same number of each class, as far as there are so many.
    """
    donors = _donors(inputs, [k for k in halves.ids[half].tolist() if k in errors], maps)
    right = half[halves.correct[half]]
    rank = {k: i for i, k in enumerate(shuffle_ids(halves.ids[right].tolist()))}
    turns: dict[int, int] = {}
    order: list[tuple[int, int, int]] = []
    for at in sorted(right.tolist(), key=lambda k: rank[int(halves.ids[k])]):
        turns[int(halves.labels[at])] = turns.get(int(halves.labels[at]), 0) + 1
        order.append((turns[int(halves.labels[at])], len(order), at))
    position = {int(k): at for at, k in enumerate(inputs.ids)}
    images: list[Tensor] = []
    labels: list[int] = []
    for _, _, at in sorted(order)[:COPIES] if donors else ():
        values = inputs.values(position[int(halves.ids[at])])
        if values is not None:
            donor, box, _ = donors[len(images) % len(donors)][1]
            images.append(paste(values, donor, box))
            labels.append(int(halves.labels[at]))
    return images, np.array(labels, dtype=np.int64)


def _cleaned(
    inputs: RunInputs, halves: Halves, errors: set[int], maps: Mapping[int, Numbers]
) -> tuple[list[Tensor], Numbers]:
    """Return errors of the first half with the part replaced by content of correct images."""
    label_of = dict(zip(halves.ids.tolist(), halves.labels.tolist(), strict=True))
    position = {int(k): at for at, k in enumerate(inputs.ids)}
    mine = [k for k in halves.ids[halves.train].tolist() if k in errors]
    right = halves.ids[halves.train[halves.correct[halves.train]]].tolist()
    fillers = [inputs.values(position[k]) for k in shuffle_ids(right)[:_DONORS]]
    known = [one for one in fillers if one is not None]
    images: list[Tensor] = []
    labels: list[int] = []
    for k, (values, box, _) in _donors(inputs, mine, maps) if known else ():
        images.append(paste(values, known[len(images) % len(known)], box))
        labels.append(label_of[k])
    return images, np.array(labels, dtype=np.int64)


def _features(work: DiagnosisWork, images: Sequence[Tensor]) -> tuple[Numbers, Numbers]:
    """Return features and logits of inputs (C, H, W) of one shape or several."""
    features, logits = [], []
    with torch.no_grad():
        for start in range(0, len(images), work.batch_size):
            some = images[start : start + work.batch_size]
            same = len({one.shape for one in some}) == 1
            for part in [some] if same else [[one] for one in some]:
                output, read = predict_with_features(work.model, torch.stack(list(part)))
                features.append(read.float().cpu().numpy())
                logits.append(output.flat.detach().float().cpu().numpy())
    return np.nan_to_num(np.concatenate(features)), np.concatenate(logits)
