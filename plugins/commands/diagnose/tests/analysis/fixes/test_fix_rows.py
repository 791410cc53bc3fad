"""Rows of fixes: what an input needs, by what is known of it."""

from __future__ import annotations

from cvx_diagnose.analysis.fixes.fix_rows import _relabeled


def test_a_label_issue_of_a_box_says_its_kind_and_keeps_the_box() -> None:
    box = [1.0, 2.0, 3.0, 4.0]
    issue = {"kind": "missing", "box": box, "label": None, "suggested": 2, "doubt": 0.9}
    found = _relabeled(issue, "class {}".format)
    assert (found["box"], found["proposed"], found["strength"]) == (box, "class 2", 0.9)
    assert found["evidence"] == "The annotation is missing: labeled nothing, predicted class 2."
