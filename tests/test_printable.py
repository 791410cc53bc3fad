"""Names from outside become one line of text that acts on nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, strategies as st

from cvx_core._util.text import printable


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
