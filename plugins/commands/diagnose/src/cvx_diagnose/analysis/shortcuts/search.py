"""Search for shortcuts: patches or locations that cause errors of several classes.

A candidate must pass three tests, each of which alone raises false alarms: errors of several true
classes share it; correct predictions of the same class show it less often; and pasted into
correctly predicted images it makes them wrong in the same way, which a region of the same size
from elsewhere in the same errors does not.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from cvx_engine import Listener
from torch import Tensor

from cvx_core import CvxError, get_task, write_atomic
from cvx_core.explanations import encode_json
from cvx_diagnose.analysis.error_groups.groups import (
    EXAMPLES,
    ErrorGroups,
    evidence_centers,
    location_of,
)
from cvx_diagnose.analysis.metrics.statistics import adjust_p_values, shuffle_ids
from cvx_diagnose.analysis.shortcuts.correct_images import RunInputs, Whole
from cvx_diagnose.analysis.shortcuts.recurrence import (
    Flags,
    fisher_test,
    join_similar_groups,
    occurrences,
)
from cvx_diagnose.analysis.shortcuts.transplants import Donor, count_flips, evidence_boxes, paste
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import DiagnosisWork

NAME = "shortcuts.json"
SCHEMA = "cvx.shortcuts/4"

GROUPS = 20
"""Number of error groups examined: the most costly ones."""

CONTROLS = 48
"""Maximum number of correct predictions compared with each group."""

DONORS, IMAGES = 12, 4
"""Errors whose region is pasted, and images that each is pasted into."""

PASSES = DONORS * IMAGES * 2 + DONORS * 2
"""Images sent through the network for one candidate."""

_AT_LEAST = 2
"""Candidates tested whatever the budget, if there is one."""

_SURE = 0.05
_MOSTLY = 0.5
"""Share of the errors that must show it."""

_FEWEST = 20
_HOPELESS = 0.2
"""p-value above which more correct predictions would hardly bring it below `_SURE`."""
_RECURS = 2
"""Number of true classes that must show it, and of errors in each of these."""

VERIFIED, REFUTED, NOT_TESTED = "verified", "not verified", "not tested"


@dataclass(eq=False)
class _Group:
    """One error group or several, and how often its errors and correct predictions show a pattern.

    Attributes
    ----------
    numbers
        Of the groups.
    at
        Its errors, as rows of the table of errors.
    p_values, shares
        By pattern, patch or location: the p-value that it is so much more common among its
        errors, and the shares of its errors and of the correct predictions that show it.
    controls, shown
        Correct predictions that were processed, by position, and which of them show the patch.
    """

    numbers: list[int]
    at: npt.NDArray[np.int64]
    p_values: dict[str, float] = field(default_factory=dict)
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)
    controls: dict[int, dict[str, Any]] = field(default_factory=dict)


def find_shortcuts(
    run: Run, error_groups: ErrorGroups, work: DiagnosisWork, listener: Listener | None = None
) -> dict[str, Any] | None:
    """Return the candidate shortcuts of a run, verified or not, the most costly first.

    Parameters
    ----------
    run, error_groups
        A finished run and the groups of its errors.
    work
        With the network and the data, to process correct predictions again.
    listener
        Notified of the progress.

    Returns
    -------
    dict or None
        ``examined``, number of groups; ``found``, see the reference of ``summary.json``; ``note``,
        why nothing could be found, or empty. None for other tasks and without a budget.
    """
    plan = run.plan
    if not get_task(plan.task).exclusive or plan.budget == 0 or plan.map_features is None:
        return None
    key = hashlib.sha256(error_groups.ids.tobytes() + error_groups.groups.tobytes()).hexdigest()[
        :16
    ]
    file = run.folder / NAME
    # Equal rows give equal results: nothing is sent through the network again.
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(file.read_bytes())
        if (before["schema"], before["groups"]) == (SCHEMA, key):
            result: dict[str, Any] = before["shortcuts"]
            return result
    try:
        found = _Search(run, error_groups, work, listener or Listener()).found()
    except CvxError as error:
        found = {"examined": 0, "found": [], "note": str(error)}
    document = {"schema": SCHEMA, "groups": key, "shortcuts": found}
    write_atomic(file, encode_json(document), overwrite=True)
    return found


def _together(groups: Sequence[_Group]) -> _Group:
    numbers = sorted(number for one in groups for number in one.numbers)
    return _Group(numbers, np.sort(np.concatenate([one.at for one in groups])))


class _Search:
    def __init__(
        self, run: Run, error_groups: ErrorGroups, work: DiagnosisWork, listener: Listener
    ) -> None:
        self.run, self.error_groups, self.listener = run, error_groups, listener
        self.inputs = RunInputs(run, work)
        self.column = "fine_features" if run.plan.fine_features else "error_features"
        table = run.table(["id", "label", "predicted", "margin_map", self.column], wrong=True)
        self.ids, self.true, self.predicted = (
            table[name].to_numpy().astype(np.int64) for name in ("id", "label", "predicted")
        )
        self.maps = run.numbers(table, "margin_map")
        self.mapped = np.asarray(table["margin_map"].is_valid())
        self.features = np.nan_to_num(run.numbers(table, self.column).astype(np.float64))
        self.position_of = {int(one): k for k, one in enumerate(self.inputs.ids)}
        self.rank_of = {one: k for k, one in enumerate(shuffle_ids(self.inputs.ids.tolist()))}

    def found(self) -> dict[str, Any]:
        groups = [
            _Group([one["number"]], np.flatnonzero(self._in_group(one["number"])))
            for one in self.error_groups.described[:GROUPS]
            if self._in_group(one["number"]).any()
        ]
        possible = self._possible(groups)
        for group in groups:
            if group not in possible:  # it counts as examined
                group.p_values["patch"] = 1.0
        self.listener.stage("comparing groups with correct predictions", len(groups))
        groups = [group for group in groups if group.p_values or self._compare(group)]
        examined = len(groups)
        candidates = [group for group in self._joined(self._unlike(groups)) if self._recurs(group)]
        candidates.sort(key=lambda one: (-len(one.at), one.numbers))
        found = [{"number": k, **self._described(one)} for k, one in enumerate(candidates)]
        self._test(candidates, found)
        note = (
            ""
            if examined
            else f"No group has {_FEWEST} correct predictions of the same class for comparison."
        )
        return {"examined": examined, "found": found, "note": note}

    def _in_group(self, number: int) -> Flags:
        """Return which errors are in a group, those without a map left out."""
        found: Flags = (self.error_groups.groups == number) & self.mapped
        return found

    def _possible(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return the groups that their errors alone do not rule out.

        Correct predictions, each of which needs a map, are processed only for these.
        """
        common = [group for group in groups if self._in_common(group)]
        found = []
        for part in join_similar_groups([self.features[group.at] for group in common]):
            several = [common[k] for k in part]
            # It is finally joined with these or some of these.
            if self._recurs(_together(several)):
                found += several
        return found

    def _in_common(self, group: _Group) -> bool:
        """Say whether most of a group's errors show one patch, or one location."""
        none = np.empty((0, self.features.shape[1]))
        shown, _ = occurrences(self.features[group.at], self.ids[group.at].tolist(), none)
        return (
            shown.mean() >= _MOSTLY
            or location_of(evidence_centers(self.maps[group.at])) is not None
        )

    def _compare(self, group: _Group) -> bool:
        """Compare a group with correct predictions of the same class; say if there are enough.

        A pattern that the first of them show as often as the errors is dropped early.
        """
        self.listener.advanced(1)
        predictions = np.unique(self.predicted[group.at])
        same = self.inputs.correct & np.isin(self.inputs.predicted, predictions)
        chosen = self._drawn(np.flatnonzero(same), CONTROLS)
        # Both maps have the same target: this class, and not one of the errors' true classes.
        rivals = np.unique(self.true[group.at]).tolist()
        group.controls = {}
        for some in (chosen[:_FEWEST], chosen[_FEWEST:]):
            group.controls |= self.inputs.evidence(some, rivals)
            if len(group.controls) >= _FEWEST:
                self._weigh(group)
                if min(group.p_values.values()) >= _HOPELESS:
                    break
        return len(group.controls) >= _FEWEST

    def _weigh(self, group: _Group) -> None:
        controls = list(group.controls.values())
        features = np.nan_to_num(np.stack([one[self.column] for one in controls]))
        errors, correct = occurrences(
            self.features[group.at], self.ids[group.at].tolist(), features.astype(np.float64)
        )
        group.shown = [k for k, flag in zip(group.controls, correct, strict=True) if flag]
        self._put(group, "patch", errors, correct)
        location = location_of(evidence_centers(self.maps[group.at]))
        if location is not None:
            evidence = np.stack([one["margin_map"] for one in controls])
            here, there = (
                np.array(
                    [location_of([one]) == location for one in evidence_centers(maps)], dtype=bool
                )
                for maps in (self.maps[group.at], evidence)
            )
            self._put(group, "location", here, there)

    def _put(self, group: _Group, name: str, errors: Flags, correct: Flags) -> None:
        group.p_values[name] = fisher_test(errors, correct)
        group.shares[name] = float(errors.mean()), float(correct.mean())

    def _unlike(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return the groups with a pattern that correct predictions show less often."""
        every = [(group, name) for group in groups for name in group.p_values]
        p_values = adjust_p_values([group.p_values[name] for group, name in every])
        for (group, name), p in zip(every, p_values, strict=True):
            group.p_values[name] = p
            if p >= _SURE or group.shares[name][0] < _MOSTLY:
                del group.p_values[name]
        return [group for group in groups if group.p_values]

    def _joined(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return groups, joining those with one cause."""
        found = []
        for part in join_similar_groups([self.features[one.at] for one in groups]):
            several = [groups[k] for k in part]
            group = several[0]
            if len(several) > 1:
                group = _together(several)
                self._compare(group)
                names = {name for one in several for name in one.p_values} & set(group.p_values)
                group.p_values = {
                    name: min(one.p_values.get(name, 1.0) for one in several) for name in names
                }
            found.append(group)
        return [group for group in found if group.p_values]

    def _recurs(self, group: _Group) -> bool:
        """Say whether it contains errors of several true classes, where there are several."""
        counts = Counter(self.true[group.at].tolist())
        needed = _RECURS if self.run.plan.outputs > 2 else 1
        return sum(count >= _RECURS for count in counts.values()) >= needed

    def _drawn(self, positions: Whole, count: int) -> list[int]:
        """Return some positions in random order, balanced over the true classes."""
        ranked = sorted(positions.tolist(), key=lambda k: self.rank_of[int(self.inputs.ids[k])])
        counts = Counter[int]()
        turns = []
        for k in ranked:
            counts[int(self.inputs.true[k])] += 1
            turns.append((counts[int(self.inputs.true[k])], k))
        # Sorting is stable, so that the inputs of one turn stay in their order.
        return [k for _, k in sorted(turns, key=lambda pair: pair[0])][:count]

    def _described(self, group: _Group) -> dict[str, Any]:
        pairs = zip(self.true[group.at].tolist(), self.predicted[group.at].tolist(), strict=True)
        groups = [self.error_groups.described[number] for number in group.numbers]
        name = min(group.p_values, key=lambda kind: (group.p_values[kind], kind))
        typical = zip_longest(*(one["examples"] for one in groups))
        return {
            "groups": group.numbers,
            "pairs": [
                {"true": y, "predicted": q, "count": n}
                for (y, q), n in Counter(pairs).most_common()
            ],
            "location": location_of(evidence_centers(self.maps[group.at])),
            "shared": name,
            "count": len(group.at),
            "cost": float(sum(one["cost"] for one in groups)),
            "error_share": group.shares[name][0],
            "correct_share": group.shares[name][1],
            "controls": len(group.controls),
            "p": group.p_values[name],
            "transplants": None,
            "replacements": None,
            "verdict": NOT_TESTED,
            "examples": [k for several in typical for k in several if k is not None][:EXAMPLES],
        }

    def _test(self, groups: Sequence[_Group], found: Sequence[dict[str, Any]]) -> None:
        """Paste the most costly candidates into correct images, within the budget."""
        most = max(_AT_LEAST, int(self.run.plan.budget * self.run.plan.items / PASSES))
        tested = []
        self.listener.stage("testing shortcuts", len(groups[:most]))
        for group, one in zip(groups[:most], found[:most], strict=True):
            self.listener.advanced(1)
            donors = self._donors(group)
            images = self._recipients(group, len(donors) * IMAGES)
            # Without localized evidence there is nothing to paste.
            if 2 * len(donors) <= min(DONORS, len(group.at)) or len(images) < DONORS:
                continue
            each = [
                [images[(IMAGES * d + k) % len(images)] for k in range(IMAGES)]
                for d in range(len(donors))
            ]
            one["transplants"] = count_flips(
                donors, each, set(self.predicted[group.at].tolist()), self.inputs.predict
            )
            one["transplants"]["images"] = len(images)
            one["replacements"] = self._replace_in_correct(group, [values for values, _ in images])
            tested.append(one)
        p_values = adjust_p_values([one["transplants"]["p"] for one in tested])
        for one, p in zip(tested, p_values, strict=True):
            one["transplants"]["p"] = p
            sure = p < _SURE and one["transplants"]["low"] > 0
            one["verdict"] = VERIFIED if sure else REFUTED

    def _donors(self, group: _Group) -> list[Donor]:
        chosen = sorted(group.at.tolist(), key=lambda k: self.rank_of[int(self.ids[k])])[:DONORS]
        found = []
        for k in chosen:
            values = self.inputs.values(self.position_of[int(self.ids[k])])
            boxes = evidence_boxes(self.maps[k])
            if values is not None and boxes is not None:
                found.append((values, *boxes))
        return found

    def _recipients(self, group: _Group, count: int) -> list[tuple[Tensor, int]]:
        """Return correct images with their classes, other than the classes predicted in the errors.

        If every class is predicted in the errors, an image may be flipped to any class but its own.
        """
        predictions = np.unique(self.predicted[group.at])
        others = self.inputs.correct & ~np.isin(self.inputs.true, predictions)
        if not others.any() and len(predictions) > 1:
            others = self.inputs.correct
        images = self.inputs.several(self._drawn(np.flatnonzero(others), count))
        return [(values, int(self.inputs.true[k])) for k, values in images.items()]

    def _replace_in_correct(self, group: _Group, others: Sequence[Tensor]) -> dict[str, int]:
        """Count correct predictions lost when other images' content replaces the pattern."""
        count = lost = 0
        for j, position in enumerate(group.shown[:DONORS]):
            image = group.controls[position]
            parts = evidence_boxes(image["margin_map"])
            if parts is None:
                continue
            fillers = [others[(2 * j + k) % len(others)] for k in range(2)]
            changed = [paste(image["values"], one, parts[0]) for one in fillers]
            predicted = self.inputs.predict(changed)
            count += 1
            lost += all(q != self.inputs.true[position] for q in predicted)
        return {"count": count, "lost": lost}
