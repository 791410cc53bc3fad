"""The terminal's picture and table: what they show, and what they never let through."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from cvx_terminal.table import bar
from cvx_terminal.terminal import Terminal
from cvx_terminal.text_image import NEGATIVE, POSITIVE, blocks, fit, scale, shades
from rich.cells import cell_len
from sample_predictions import sample_of_a_detector

from cvx_core import Explanation, OptionError
from cvx_core.explanations.colormaps import VIK
from cvx_core.explanations.heatmap import Limits, Shown, overlay
from cvx_core.testing.samples import sample_explanation

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "[red]x[/red] [link=http://x]y[/link] :smile:",
    "\x9b31m\x00\x08",
    "a\r\nb\nc\td",
    "\u202egnp.exe مرحبا",
    "猫 😀 👩‍🚀",
    "x" * 300,
    "\udc80",
)


def text_of(explanation: Explanation, **parameters: object) -> str:
    return Terminal(**{"color": False, **parameters}).render(explanation).text()  # type: ignore[arg-type]


def grey(values: object, **fields: object) -> Explanation:
    sample = sample_explanation(size=(40, 40), **fields)  # type: ignore[arg-type]
    return sample.replace(
        image=np.full((40, 40, 3), 100, np.uint8), values=np.asarray(values, np.float32)
    )


def test_the_table_says_question_answer_label_likeliest_classes_evidence_and_layer() -> None:
    text = text_of(sample_explanation(), width=160)
    for row in (
        "sample · sample.jpg",
        "target     why power drill and not screwdriver?",
        "prediction power drill 86.7 %",
        "label      screwdriver 11.7 % ✗ wrong",
        "top        ████████▋   86.7 % power drill",
        "residual 1.2e-07, 25 % of the relevance has no spatial position",
        "layer      layer4",
    ):
        assert row in text
    assert "label      power drill 86.7 % ✓ correct" in text_of(
        sample_explanation(label=0), width=120
    )
    assert "label " not in text_of(sample_explanation(label=None))


LIST = [
    {"layer": "stem", "grid": [112, 112], "total": 3.25, "cells": -1.23456},
    {"layer": "blocks.1", "grid": [56, 56], "total": 3.25, "cells": None},
]


def test_evidence_that_is_a_list_of_records_is_a_table() -> None:
    """Below the picture; a column that says the same everywhere is said once."""
    lines = text_of(sample_explanation(evidence={"layer_profile": LIST})).splitlines()
    assert lines[-4:] == [
        "layer profile (total 3.25)",
        "layer          grid   cells",
        "stem      112 x 112  -1.235",
        "blocks.1    56 x 56       -",
    ]


def test_a_single_record_says_everything_itself() -> None:
    lost = [{"module": "act", "missing": 0.5}]
    text = text_of(sample_explanation(evidence={"unconserved": lost}))
    assert text.splitlines()[-3:] == ["unconserved", "module  missing", "act         0.5"]


def test_the_evidence_says_how_far_the_estimate_agrees_and_what_rounding_hides() -> None:
    evidence = {"pearson_r": -0.25, "unconserved": None, "unconserved_reason": "can't be told"}
    text = text_of(sample_explanation(evidence=evidence), width=160)
    assert "correlation with the first-order estimate -0.25, can't be told" in text
    assert "correlation" not in text_of(sample_explanation(evidence={"pearson_r": None}))


def test_a_table_that_is_too_wide_is_a_list() -> None:
    """Numbers are never cut off."""
    wide = [{**row, "a_column_of_some_length": 0.123456 * k} for k, row in enumerate(LIST)]
    text = text_of(sample_explanation(evidence={"layer_profile": wide}), width=30)
    assert "- layer stem, grid 112 x 112,\ncells -1.235, a column of some\nlength 0\n" in text
    assert "length 0.1235" in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_record_lets_nothing_through(hostile: str) -> None:
    records = [{hostile: hostile, "b": 1.0}, {hostile: "c", "b": 2.0}]
    text = text_of(sample_explanation(evidence={hostile: records}), width=100)
    shown = set(text) - {"\n"}
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\u200d"]


def test_one_artifact_holds_the_whole_run() -> None:
    assert Terminal.joins
    artifact = Terminal(color=False).render(
        [sample_explanation(), sample_explanation().replace(method="other")]
    )
    assert "sample · sample.jpg" in artifact.text()
    assert "other · sample.jpg" in artifact.text()
    assert (artifact.suffix, artifact.media_type) == (".txt", "text/plain")


def test_the_same_explanation_gives_the_same_bytes() -> None:
    for color in (True, False):
        renderer = Terminal(color=color)
        first, second = (renderer.render(sample_explanation()).data for _ in range(2))
        assert first == second


def test_without_colour_there_is_not_one_escape_code() -> None:
    assert "\x1b" not in text_of(sample_explanation())


def test_colour_is_written_when_asked_for_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = text_of(sample_explanation(), color=True)
    assert "\x1b[38;2;" in expected
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb"), ("COLORTERM", ""), ("COLUMNS", "9")):
        monkeypatch.setenv(name, value)
    assert text_of(sample_explanation(), color=True) == expected


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "colored"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_auto_means_colour_on_a_terminal_that_has_not_refused_it(
    is_terminal: bool, no_color: str, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b" in text_of(sample_explanation(), color="auto")) is colored


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("first", HOSTILE)
def test_names_reach_the_terminal_as_text_and_as_nothing_else(first: str, color: bool) -> None:
    explanation = sample_explanation(
        classes=(first, *HOSTILE),
        unit=first,
        provenance={"layer": first, "display_note": first},
    ).replace(name=first, method=first)
    text = text_of(explanation, color=color)
    left = ESCAPE.sub("", text) if color else text
    acting = {c for c in left if unicodedata.category(c) in ("Cc", "Cs")} - {"\n"}
    assert not acting
    assert "\u202e" not in left
    assert "\x1b]" not in text
    assert all(cell_len(line) <= 80 for line in left.split("\n"))


def test_markup_in_a_name_is_shown_letter_by_letter() -> None:
    text = text_of(sample_explanation(classes=("[red]x[/red] :smile:", "b", "c")), width=120)
    assert "prediction [red]x[/red] :smile: 86.7 %" in text


def test_a_character_shows_two_pixels_of_the_overlay() -> None:
    explanation = sample_explanation()
    columns, lines = fit(explanation, 30)
    picture = np.asarray(overlay(explanation, (columns, 2 * lines)))
    text = blocks(explanation, columns, lines)
    assert text.plain == "\n".join(["▀" * columns] * lines)
    span = text.spans[3 * columns + 5]
    style = span.style
    assert not isinstance(style, str)
    assert style.color is not None
    assert style.bgcolor is not None
    assert style.color.triplet == tuple(picture[6, 5])
    assert style.bgcolor.triplet == tuple(picture[7, 5])


def test_shades_tell_for_from_against_and_strong_from_weak() -> None:
    top, middle, bottom = shades(grey([[4.0], [0.0], [-4.0]]), 3, 3).plain.split("\n")
    assert (top, middle, bottom) == (POSITIVE[-1] * 3, POSITIVE[0] * 3, NEGATIVE[-1] * 3)
    weak = shades(grey([[4.0, 1.0]]), 2, 1).plain
    assert weak == POSITIVE[-1] + POSITIVE[1]


def test_the_map_covers_only_what_the_network_saw() -> None:
    picture = shades(grey([[1.0]], extent=(20, 0, 40, 40)), 4, 2).plain.split("\n")
    assert picture == [POSITIVE[0] * 2 + POSITIVE[-1] * 2] * 2


def test_the_key_names_both_ends_of_the_colours() -> None:
    both, limits = np.array([[-2.5, 2.5]], np.float32), Limits(-2.5, 2.5)
    key = scale(Shown(both, limits, 0.0), True, "logits", color=True)
    assert key.plain == "-2.5 ████████████ 2.5 logits"
    ends = [key.spans[i].style for i in (0, -1)]
    found = [style.color.triplet for style in ends if not isinstance(style, str) and style.color]
    assert found == [tuple(VIK[0]), tuple(VIK[255])]
    unsigned = Shown(both.clip(0), Limits(0, 2.5), 0.0)
    assert scale(unsigned, False, "", color=False).plain == "░▒▓█ up to 2.5"


def test_the_key_of_a_map_without_negative_values_begins_at_zero() -> None:
    shown = Shown(np.array([[0.0, 2.5]], np.float32), Limits(-2.5, 2.5), 0.0)
    key = scale(shown, True, "logits", color=True)
    assert key.plain == "0 ████████████ 2.5 logits"
    first = key.spans[0].style
    assert not isinstance(first, str)
    assert first.color is not None
    assert first.color.triplet == tuple(VIK[128])
    assert scale(shown, True, "", color=False).plain == "░▒▓█ up to 2.5"


@pytest.mark.parametrize(("size", "shape"), [((320, 240), (36, 14)), ((60, 900), (3, 22))])
def test_the_picture_keeps_its_proportions_and_stays_on_the_screen(
    size: tuple[int, int], shape: tuple[int, int]
) -> None:
    assert fit(sample_explanation(size=size), 36) == shape


def test_a_bar_is_exact_to_an_eighth() -> None:
    assert bar(0.0, 2) == "  "
    assert bar(0.5, 2) == "█ "
    assert bar(9 / 16, 2) == "█▏"
    assert bar(1.0, 2) == "██"


@pytest.mark.parametrize("width", [30, 63, 64, 80, 200])
@pytest.mark.parametrize("color", [True, False])
def test_no_line_is_wider_than_asked(width: int, color: bool) -> None:
    text = ESCAPE.sub("", text_of(sample_explanation(cells=(70, 70)), width=width, color=color))
    assert max(map(cell_len, text.split("\n"))) <= width
    assert re.search(r"note\s+smoothed", text)


@pytest.mark.parametrize("parameters", [{"width": 10}, {"width": 80.5}, {"color": "blue"}])
def test_a_wrong_parameter_is_an_error_that_says_what_is_allowed(
    parameters: dict[str, object],
) -> None:
    with pytest.raises(OptionError, match=r"from 30 to 400|true, false or auto"):
        Terminal(**parameters)  # type: ignore[arg-type]


def test_the_plugin_module_is_light() -> None:
    program = (
        "import sys, cvx_terminal.plugin;"
        "print(sorted({'rich', 'numpy', 'torch', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_what_speaks_against_the_map_has_rows_of_its_own() -> None:
    failed = {"verdict": "fails", "reason": "It stays."}
    one = sample_explanation(evidence={"warning": "Edges only.", "sanity": failed})
    text = Terminal(width=120, color=False).render(one).text()
    assert re.search(r"check +⚠ Edges only", text)
    assert re.search(r"check +⚠ Sanity check: fails. It stays", text)


def test_the_boxes_of_a_detector_are_named_with_their_places() -> None:
    text = text_of(sample_of_a_detector(), width=120)
    assert re.search(r"prediction +box 0: cat 90.0 % at 20,30,120,200\n", text)
    assert re.search(r"\n.* box 1: dog 70.0 % at 150,60,290,180\n", text)
    assert re.search(r"target box +150,60,290,180\n", text)


def test_of_many_boxes_the_best_are_named_and_of_none_none() -> None:
    one = sample_of_a_detector()
    many = one.replace(target=replace(one.target, reported=one.target.reported * 8))
    assert "and 6 more" in text_of(many, width=120)
    none = one.replace(target=replace(one.target, reported=()))
    assert re.search(r"prediction +no box\n", text_of(none, width=120))


def test_a_sum_that_means_nothing_is_left_out() -> None:
    assert re.search(r"evidence +sum ", text_of(sample_explanation(evidence={})))
    assert " sum " not in text_of(sample_explanation(evidence={"additive": False}))
