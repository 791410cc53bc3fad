def test_a_label_issue_of_a_box_says_its_kind_and_keeps_the_box() -> None:
    box = [1.0, 2.0, 3.0, 4.0]
    issue = {"kind": "missing", "box": box, "label": None, "suggested": 2, "doubt": 0.9}
    found = _relabeled(issue, "class {}".format)
    assert (found["box"], found["proposed"], found["strength"]) == (box, "class 2", 0.9)
    assert found["evidence"] == "The annotation is missing: labeled nothing, predicted class 2."
