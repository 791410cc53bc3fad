"""Explanations as one JSON document."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar

from cvx_core.errors import OptionError
from cvx_core.explanations.explanation import Artifact, Explanation
from cvx_core.explanations.npz import SCHEMA
from cvx_core.explanations.renderer import Renderer


@dataclass(frozen=True)
class Json(Renderer):
    """Maps and metadata as JSON, for any program and for reading.

    Parameters
    ----------
    arrays
        Whether the maps go in, as nested lists of numbers that are exact as float32. Without
        them a document of any run stays small. The photographs' pixels never go in.

    Raises
    ------
    OptionError
        If `arrays` is neither true nor false.
    """

    arrays: bool = True

    suffix: ClassVar[str] = ".json"
    media_type: ClassVar[str] = "application/json"
    joins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.arrays, bool):
            raise OptionError(f"arrays is true or false, and {self.arrays!r} is neither.")

    def draw(self, explanations: list[Explanation]) -> Artifact:
        """Return the document of all explanations, in order."""
        entries = ",\n".join(_entry(one, self.arrays) for one in explanations)
        text = f'{{\n "schema": {json.dumps(SCHEMA)},\n "explanations": [\n{entries}\n ]\n}}\n'
        # File names may hold bytes that are no text (lone surrogates); a backslash escape of such
        # a code is also its escape in JSON, and it can stand nowhere but inside a string.
        return Artifact(self.suffix, self.media_type, text.encode("utf-8", "backslashreplace"))


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that every document of this renderer fulfils."""
    text = files("cvx_json").joinpath("explanations.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _entry(explanation: Explanation, arrays: bool) -> str:
    """Write one explanation: sorted keys, and each row of the map on a line of its own."""
    text = _dumps(explanation.to_dict(arrays=False), indent=1)
    if not arrays:
        return text
    rows = ",\n  ".join(_dumps(row, indent=None) for row in explanation.values.tolist())
    return f'{text.removesuffix("}").rstrip()},\n "values": [\n  {rows}\n ]\n}}'


def _dumps(value: Any, indent: int | None) -> str:
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(
        _strict(value),
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        indent=indent,
        separators=separators,
    )


def _strict(value: Any) -> Any:
    """Put null where a number is not finite: JSON has no nan, and most readers refuse it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return value
