"""JSON renderer: explanations as one document."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar

from cvx_core import OptionError
from cvx_core.explanations import SCHEMA, Artifact, Explanation, Renderer


@dataclass(frozen=True)
class Json(Renderer):
    """Maps and metadata as JSON.

    Parameters
    ----------
    arrays
        Whether to include the maps, as nested lists of numbers that are exact as float32.
        Image pixels are never included.

    Raises
    ------
    OptionError
        If `arrays` is not a bool.
    """

    arrays: bool = True

    suffix: ClassVar[str] = ".json"
    media_type: ClassVar[str] = "application/json"
    joins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.arrays, bool):
            raise OptionError(f"arrays must be true or false, got {self.arrays!r}.")

    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the document of all explanations, in order."""
        entries = ",\n".join(_entry(one, self.arrays) for one in explanations)
        text = f'{{\n "schema": {json.dumps(SCHEMA)},\n "explanations": [\n{entries}\n ]\n}}\n'
        # File names may contain undecodable bytes (lone surrogates). Python's backslash escape of
        # these is also JSON's, and they occur only inside strings.
        return Artifact(self.suffix, self.media_type, text.encode("utf-8", "backslashreplace"))


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of this renderer's documents."""
    text = files("cvx_json").joinpath("explanations.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _entry(explanation: Explanation, arrays: bool) -> str:
    """Return one explanation as JSON: sorted keys, one line for each row of the map."""
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
    """Replace non-finite numbers by null: JSON has no nan, and most parsers reject it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return value
