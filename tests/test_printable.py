"""Names from outside become one line of text that acts on nothing."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import cvx_core as cvx
from cvx_core._util.text import printable
from cvx_core.images.image_files import SourceImage
from cvx_core.images.prepared_image import prepare_tensor


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tabby cat", "tabby cat"),
        ("cat\x1b[31m", r"cat\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("two\r\nlines\tand  more\u2028", "two lines and more"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\udc80.jpg", r"\udc80.jpg"),
        ("\ufffe\U0001ffff", r"\ufffe\U0001ffff"),
        (r"$5 \foo$ [red]<b>", r"$5 \foo$ [red]<b>"),
        ("猫 😀 👩‍🚀 مرحبا می‌خواهم", "猫 😀 👩‍🚀 مرحبا می‌خواهم"),
        ("", ""),
    ],
)
def test_what_acts_is_spelled_out_and_what_can_be_read_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=40))
def test_any_text_becomes_one_encodable_line_without_control_characters(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert printable(shown) == shown


def test_no_text_of_a_result_is_longer_than_a_line() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    classes = [f"class {k}" for k in range(1000)]
    prediction = cvx.ClassificationPrediction(np.arange(1000.0), classes)
    [prepared] = prepare_tensor(torch.zeros(3, 64, 64))
    things: dict[str, object] = {
        "<ClassificationPrediction class 999 63.2 % of 1000>": prediction,
        "<TargetRecord why class 999?>": cvx.Predicted().resolve(prediction)[1],
        "SourceImage(pixels=uint8 (300, 400, 3), name='a'": SourceImage(pixels, "a", "0" * 64),
        "PreparedImage(tensor=float32 (3, 64, 64)": prepared,
        "GroundTruthMask(indices=int64 (300, 400)": cvx.GroundTruthMask(pixels[:, :, 0]),
        "MaskRegion(mask=bool (300, 400)": cvx.MaskRegion(pixels[:, :, 0] == 0),
        "Metadata({'layer': ": cvx.Metadata({"layer": "x" * 500}),
        "SegmentationPrediction(logits=float64 (2, 9, 9)": cvx.SegmentationPrediction(
            np.zeros((2, 9, 9)), ["a", "b"], prepared.frame
        ),
    }
    for start, thing in things.items():
        text = repr(thing)
        assert text.startswith(start)
        assert len(text) <= 100
        assert "\n" not in text
