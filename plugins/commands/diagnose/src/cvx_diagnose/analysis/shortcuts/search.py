"""Shortcuts: a patch or a place from which errors come, and right answers as a rule do not.

Three things are asked of a suspect, each of which alone raises false alarms: that errors of several
true classes share it; that right answers with the same answer show it less often; and that, put
into right images, it makes them wrong in the same way, which a part as large from elsewhere in the
same errors does not.
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
from torch import Tensor

from cvx_core import CvxError, write_atomic
from cvx_diagnose.analysis.error_groups.groups import TYPICAL, Causes, middles_of, place_of
from cvx_diagnose.analysis.metrics.statistics import adjust_p_values, shuffle_ids
from cvx_diagnose.analysis.shortcuts.correct_images import Inputs, Seen, Whole
from cvx_diagnose.analysis.shortcuts.recurrence import Flags, joined, more_often, occurrences
from cvx_diagnose.analysis.shortcuts.transplants import Donor, parts_of, pasted, turned
from cvx_diagnose.run.plan import json_bytes
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.work import Diagnosis

NAME = "shortcuts.json"
SCHEMA = "cvx.shortcuts/2"

GROUPS = 20
"""Groups that are looked at: those that cost most."""

CONTROLS = 48
"""Right answers beside each group, at most."""

DONORS, IMAGES = 12, 4
"""Errors whose part is put into others, and into how many of them each."""

PASSES = DONORS * IMAGES * 2 + DONORS * 2
"""Images that go through the network for one suspect."""

_AT_LEAST = 2
"""Suspects that are tested whatever the budget is, if there is one."""

_SURE = 0.05
_MOSTLY = 0.5
"""Share of the errors that must show it, and of the images that it must turn."""

_FEWEST = 20
_HOPELESS = 0.2
"""Chance from which on more right answers would hardly make it one below `_SURE`."""
_RECURS = 2
"""True classes that it must recur in, and errors in each of these."""

VERIFIED, REFUTED, NOT_TESTED = "verified", "not verified", "not tested"


@dataclass(eq=False)
class _Group:
    """A group of errors, or several, and how often it and right answers show what it shares.

    Attributes
    ----------
    numbers
        Of the groups.
    at
        Its errors, as rows of the table of errors.
    chances, shares
        Of what it may share, a patch or a place: by what chance it would be so much commoner among
        its errors, and the shares of its errors and of the right answers that show it.
    controls, shown
        Right answers that were looked at, by position, and which of them show the patch.
    """

    numbers: list[int]
    at: npt.NDArray[np.int64]
    chances: dict[str, float] = field(default_factory=dict)
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)
    controls: dict[int, Seen] = field(default_factory=dict)


def find_shortcuts(run: Run, causes: Causes, work: Diagnosis | None) -> dict[str, Any] | None:
    """Return the suspected shortcuts of a run, verified or not, the one that costs most first.

    Parameters
    ----------
    run, causes
        A finished run and the groups of its errors.
    work
        With the network and the data, since right answers are looked at again.

    Returns
    -------
    dict or None
        ``looked_at``, groups; ``found``, see the reference of ``summary.json``; ``note``, why
        nothing could be found, or empty. None of other tasks, without a budget, and where neither
        ``work`` nor an earlier result is there.
    """
    plan = run.plan
    if plan.task != "classification" or plan.budget == 0 or plan.map_features is None:
        return None
    key = hashlib.sha256(causes.ids.tobytes() + causes.groups.tobytes()).hexdigest()[:16]
    file = run.folder / NAME
    # The same rows give the same, so that a finished run is not sent through the network again.
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(file.read_bytes())
        if (before["schema"], before["groups"]) == (SCHEMA, key):
            result: dict[str, Any] = before["shortcuts"]
            return result
    if work is None:
        return None
    try:
        found = _Search(run, causes, work).found()
    except CvxError as error:
        found = {"looked_at": 0, "found": [], "note": str(error)}
    document = {"schema": SCHEMA, "groups": key, "shortcuts": found}
    write_atomic(file, json_bytes(document), overwrite=True)
    return found


def _together(groups: Sequence[_Group]) -> _Group:
    numbers = sorted(number for one in groups for number in one.numbers)
    return _Group(numbers, np.sort(np.concatenate([one.at for one in groups])))


class _Search:
    def __init__(self, run: Run, causes: Causes, work: Diagnosis) -> None:
        self.run, self.causes = run, causes
        self.inputs = Inputs(run, work)
        self.column = "fine_features" if run.plan.fine_features else "error_features"
        table = run.table(["id", "label", "predicted", "margin_map", self.column], wrong=True)
        self.ids, self.true, self.said = (
            table[name].to_numpy().astype(np.int64) for name in ("id", "label", "predicted")
        )
        self.maps = run.numbers(table, "margin_map")
        self.features = np.nan_to_num(run.numbers(table, self.column).astype(np.float64))
        self.place = {int(one): k for k, one in enumerate(self.inputs.ids)}
        self.turn = {one: k for k, one in enumerate(shuffle_ids(self.inputs.ids.tolist()))}

    def found(self) -> dict[str, Any]:
        groups = [
            _Group([one["number"]], np.flatnonzero(self.causes.groups == one["number"]))
            for one in self.causes.described[:GROUPS]
        ]
        possible = self._possible(groups)
        for group in groups:
            if group not in possible:  # it counts among those that were looked at
                group.chances["patch"] = 1.0
        groups = [group for group in groups if group.chances or self._compare(group)]
        looked_at = len(groups)
        suspects = [group for group in self._joined(self._unlike(groups)) if self._recurs(group)]
        suspects.sort(key=lambda one: (-len(one.at), one.numbers))
        found = [{"number": k, **self._described(one)} for k, one in enumerate(suspects)]
        self._test(suspects, found)
        note = (
            ""
            if looked_at
            else f"No group has {_FEWEST} right answers of the same class beside it."
        )
        return {"looked_at": looked_at, "found": found, "note": note}

    def _possible(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return the groups that their errors alone do not rule out.

        Only beside these right answers are looked at, each of which takes a map.
        """
        common = [group for group in groups if self._in_common(group)]
        found = []
        for part in joined([self.features[group.at] for group in common]):
            several = [common[k] for k in part]
            # What it is joined with in the end is this or a part of it.
            if self._recurs(_together(several)):
                found += several
        return found

    def _in_common(self, group: _Group) -> bool:
        """Say whether most of a group's errors show one patch, or one place."""
        none = np.empty((0, self.features.shape[1]))
        shown, _ = occurrences(self.features[group.at], self.ids[group.at].tolist(), none)
        return shown.mean() >= _MOSTLY or place_of(middles_of(self.maps[group.at])) is not None

    def _compare(self, group: _Group) -> bool:
        """Compare a group with right answers that are the same; say whether there are enough.

        What the first of them show as often as the errors is given up with these.
        """
        answers = np.unique(self.said[group.at])
        same = self.inputs.right & np.isin(self.inputs.predicted, answers)
        chosen = self._drawn(np.flatnonzero(same), CONTROLS)
        # The same is asked of both: why this answer, and not one of the errors' true classes.
        rivals = np.unique(self.true[group.at]).tolist()
        group.controls = {}
        for some in (chosen[:_FEWEST], chosen[_FEWEST:]):
            group.controls |= self.inputs.evidence(some, rivals, self.column)
            if len(group.controls) >= _FEWEST:
                self._weigh(group)
                if min(group.chances.values()) >= _HOPELESS:
                    break
        return len(group.controls) >= _FEWEST

    def _weigh(self, group: _Group) -> None:
        controls = list(group.controls.values())
        features = np.nan_to_num(np.stack([one.features for one in controls]))
        errors, right = occurrences(
            self.features[group.at], self.ids[group.at].tolist(), features.astype(np.float64)
        )
        group.shown = [k for k, flag in zip(group.controls, right, strict=True) if flag]
        self._put(group, "patch", errors, right)
        place = place_of(middles_of(self.maps[group.at]))
        if place is not None:
            evidence = np.stack([one.evidence for one in controls])
            here, there = (
                np.array([place_of([one]) == place for one in middles_of(maps)], dtype=bool)
                for maps in (self.maps[group.at], evidence)
            )
            self._put(group, "place", here, there)

    def _put(self, group: _Group, name: str, errors: Flags, right: Flags) -> None:
        group.chances[name] = more_often(errors, right)
        group.shares[name] = float(errors.mean()), float(right.mean())

    def _unlike(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return the groups that share what right answers show less often, with their chances."""
        every = [(group, name) for group in groups for name in group.chances]
        chances = adjust_p_values([group.chances[name] for group, name in every])
        for (group, name), p in zip(every, chances, strict=True):
            group.chances[name] = p
            if p >= _SURE or group.shares[name][0] < _MOSTLY:
                del group.chances[name]
        return [group for group in groups if group.chances]

    def _joined(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return groups, those taken together that have one cause."""
        found = []
        for part in joined([self.features[one.at] for one in groups]):
            several = [groups[k] for k in part]
            group = several[0]
            if len(several) > 1:
                group = _together(several)
                self._compare(group)
                names = {name for one in several for name in one.chances} & set(group.chances)
                group.chances = {
                    name: min(one.chances.get(name, 1.0) for one in several) for name in names
                }
            found.append(group)
        return [group for group in found if group.chances]

    def _recurs(self, group: _Group) -> bool:
        """Say whether errors of several true classes are in it, where there are several."""
        counts = Counter(self.true[group.at].tolist())
        needed = _RECURS if self.run.plan.outputs > 2 else 1
        return sum(count >= _RECURS for count in counts.values()) >= needed

    def _drawn(self, positions: Whole, count: int) -> list[int]:
        """Return some positions by chance, of all true classes alike."""
        ranked = sorted(positions.tolist(), key=lambda k: self.turn[int(self.inputs.ids[k])])
        seen = Counter[int]()
        turns = []
        for k in ranked:
            seen[int(self.inputs.true[k])] += 1
            turns.append((seen[int(self.inputs.true[k])], k))
        # Sorting is stable, so that a turn's inputs stay in their order.
        return [k for _, k in sorted(turns, key=lambda pair: pair[0])][:count]

    def _described(self, group: _Group) -> dict[str, Any]:
        pairs = zip(self.true[group.at].tolist(), self.said[group.at].tolist(), strict=True)
        groups = [self.causes.described[number] for number in group.numbers]
        name = min(group.chances, key=lambda kind: (group.chances[kind], kind))
        typical = zip_longest(*(one["typical"] for one in groups))
        return {
            "groups": group.numbers,
            "pairs": [
                {"true": y, "predicted": q, "count": n}
                for (y, q), n in Counter(pairs).most_common()
            ],
            "place": place_of(middles_of(self.maps[group.at])),
            "shares": name,
            "count": len(group.at),
            "cost": float(sum(one["cost"] for one in groups)),
            "errors_with": group.shares[name][0],
            "right_with": group.shares[name][1],
            "controls": len(group.controls),
            "p": group.chances[name],
            "pasted": None,
            "carries": None,
            "verdict": NOT_TESTED,
            "typical": [k for several in typical for k in several if k is not None][:TYPICAL],
        }

    def _test(self, groups: Sequence[_Group], found: Sequence[dict[str, Any]]) -> None:
        """Put what the costliest share into right images, as many as the budget allows."""
        most = max(_AT_LEAST, int(self.run.plan.budget * self.run.plan.items / PASSES))
        tested = []
        for group, one in zip(groups[:most], found[:most], strict=True):
            donors = self._donors(group)
            images = self._recipients(group, len(donors) * IMAGES)
            # Of maps that blame no place there is nothing to be put anywhere.
            if 2 * len(donors) <= min(DONORS, len(group.at)) or len(images) < DONORS:
                continue
            each = [
                [images[(IMAGES * d + k) % len(images)] for k in range(IMAGES)]
                for d in range(len(donors))
            ]
            one["pasted"] = turned(
                donors,
                [[values for values, _ in several] for several in each],
                [[true for _, true in several] for several in each],
                set(self.said[group.at].tolist()),
                self.inputs.answers,
            )
            one["pasted"]["images"] = len(images)
            one["carries"] = self._carried(group, [values for values, _ in images])
            tested.append(one)
        chances = adjust_p_values([one["pasted"]["p"] for one in tested])
        for one, p in zip(tested, chances, strict=True):
            one["pasted"]["p"] = p
            mostly = one["pasted"]["turned"] >= _MOSTLY * one["pasted"]["tried"]
            one["verdict"] = VERIFIED if p < _SURE and mostly else REFUTED

    def _donors(self, group: _Group) -> list[Donor]:
        chosen = sorted(group.at.tolist(), key=lambda k: self.turn[int(self.ids[k])])[:DONORS]
        found = []
        for k in chosen:
            values = self.inputs.values(self.place[int(self.ids[k])])
            donor = None if values is None else Donor.of(values, self.maps[k])
            found += [] if donor is None else [donor]
        return found

    def _recipients(self, group: _Group, count: int) -> list[tuple[Tensor, int]]:
        """Return right images with their classes, others than those that the errors are taken for.

        Where they are taken for every class, an image may be made wrong by any but its own.
        """
        answers = np.unique(self.said[group.at])
        others = self.inputs.right & ~np.isin(self.inputs.true, answers)
        if not others.any() and len(answers) > 1:
            others = self.inputs.right
        images = self.inputs.several(self._drawn(np.flatnonzero(others), count))
        return [(values, int(self.inputs.true[k])) for k, values in images.items()]

    def _carried(self, group: _Group, others: Sequence[Tensor]) -> dict[str, int]:
        """Return how many right answers that show it are lost with other images in its place."""
        tried = lost = 0
        for j, position in enumerate(group.shown[:DONORS]):
            seen = group.controls[position]
            parts = parts_of(seen.evidence)
            if parts is None:
                continue
            turn = [others[(2 * j + k) % len(others)] for k in range(2)]
            said = self.inputs.answers([pasted(seen.values, one, parts[0]) for one in turn])
            tried += 1
            lost += all(q != self.inputs.true[position] for q in said)
        return {"tried": tried, "lost": lost}
