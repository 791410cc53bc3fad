"""Pascal VOC's annotations, in XML (Everingham et al., IJCV 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

from cvx_annotations.common import class_index, proper_box
from cvx_core import InputError, read_bytes
from cvx_core.tasks import GroundTruthBox, GroundTruthBoxes


def read_voc(file: Path, classes: Sequence[str] | None) -> GroundTruthBoxes:
    """Return the objects of a file; see `read_annotations`."""
    reader = _VocReader(file)
    found = []
    for line, texts in reader.objects:
        where = f"{file}, line {line}"
        try:
            low = [float(texts[key]) for key in ("xmin", "ymin")]
            high = [float(texts[key]) for key in ("xmax", "ymax")]
            name = texts["name"]
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{where}: the object has no {error}."
                if isinstance(error, KeyError)
                else f"{where}: {error}.",
                "An object has a name, and a bndbox with xmin, ymin, xmax and ymax.",
            ) from error
        # The first pixel is 1, and the last belongs to the box. Some write 0 for the first.
        left, top = (max(side - 1.0, 0.0) for side in low)
        sides = proper_box((left, top, *high), where, "xmin is below xmax, and ymin below ymax.")
        difficult = texts.get("difficult", "0") == "1"
        found.append(GroundTruthBox(sides, class_index(name, classes, where), difficult))
    return GroundTruthBoxes(tuple(found))


class _VocReader:
    """Collects each object's fields with the line that it begins in.

    Expat follows no external entity; a document type, where entities that grow without end would
    be declared, is refused.
    """

    FIELDS = (
        ("name",),
        ("difficult",),
        *(("bndbox", side) for side in ("xmin", "ymin", "xmax", "ymax")),
    )

    def __init__(self, file: Path) -> None:
        self.file = file
        self.objects: list[tuple[int, dict[str, str]]] = []
        self.path: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.root = ""
        try:
            self.parser.Parse(read_bytes(file), True)
        except expat.ExpatError as error:
            raise InputError(
                f"{file}, line {error.lineno}: invalid XML ({expat.errors.messages[error.code]}).",
                "Pass a Pascal VOC annotation.",
            ) from error
        except (ValueError, LookupError) as error:
            raise InputError(f"Invalid XML: {file}: {error}.", "Save it as UTF-8.") from error
        if self.root != "annotation":
            raise InputError(
                f"Not a Pascal VOC annotation: {file}.",
                f"Expected the root element <annotation>, got <{self.root}>.",
            )

    def _doctype(self, *_: Any) -> None:
        raise InputError(
            f"{self.file}, line {self.parser.CurrentLineNumber}: document types are not supported.",
            "Remove <!DOCTYPE ...>.",
        )

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self.root = self.root or tag
        self.path.append(tag)
        if self.path == ["annotation", "object"]:
            self.objects.append((self.parser.CurrentLineNumber, {}))

    def _end(self, _: str) -> None:
        self.path.pop()

    def _characters(self, text: str) -> None:
        inside = tuple(self.path[2:])
        # Parts of an object have names and boxes of their own, one level further down.
        if self.path[:2] == ["annotation", "object"] and inside in self.FIELDS:
            texts = self.objects[-1][1]
            texts[inside[-1]] = (texts.get(inside[-1], "") + text).strip()
