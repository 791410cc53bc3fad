"""Names from outside (files, classes) as one line of text that is safe to show anywhere."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import fields
from typing import Any

_BREAKS = dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " ")
# Joiners shape Persian words and emoji, marks place punctuation in right-to-left text.
_KEPT = frozenset("\u200c\u200d\u200e\u200f\u061c")


def printable(text: str) -> str:
    r"""Return `text` on one line, with control characters escaped.

    Line breaks become spaces. Control characters, text-direction overrides, invisible format
    characters, lone surrogates and non-characters are spelled out as escapes.

    Examples
    --------
    >>> printable("cat\x1b[31m\nred")
    'cat\\x1b[31m red'
    """
    line = "".join(_escaped(character) for character in text.translate(_BREAKS))
    return re.sub(" {2,}", " ", line).strip(" ")


def shortened(text: str, most: int = 80) -> str:
    """Return `text` as `printable` does, and of a long one its beginning and its end.

    Examples
    --------
    >>> shortened("layer" * 9, 16)
    'layerla…yerlayer'
    """
    line = printable(text)
    ends = (most - 1) // 2
    return line if len(line) <= most else line[:ends] + "…" + line[ends + 1 - most :]


def brief(thing: Any, most: int = 100) -> str:
    """Return a dataclass on one line: arrays by dtype and shape, long sequences by their length.

    Examples
    --------
    >>> from dataclasses import make_dataclass
    >>> import numpy as np
    >>> brief(make_dataclass("Mask", ["values", "names"])(np.zeros((2, 3)), ["a"] * 99))
    'Mask(values=float64 (2, 3), names=99 values)'
    """
    values = (f"{one.name}={_brief_value(getattr(thing, one.name))}" for one in fields(thing))
    return shortened(f"{type(thing).__name__}({', '.join(values)})", most)


def _brief_value(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"{len(value)} values"
    return repr(value)


def _escaped(character: str) -> str:
    code = ord(character)
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return _spelled(code)
    if character not in _KEPT and unicodedata.category(character) in ("Cc", "Cf", "Cs"):
        return _spelled(code)
    return character


def _spelled(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
