"""Pascal VOC's annotations, in XML (Everingham et al., IJCV 2010)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.parsers import expat

from cvx_annotations.class_names import ClassNames
from cvx_annotations.common import proper_box, read_all
from cvx_annotations.orientation import upright_boxes
from cvx_core import InputError, read_bytes
from cvx_core.tasks import GroundTruthBox, GroundTruthBoxes


def read_voc(file: Path, image: Path, names: ClassNames) -> GroundTruthBoxes:
    """Return the objects of a file; see `read_annotations`."""
    reader = _VocReader(file)

    def read(numbered: tuple[int, dict[str, str]]) -> GroundTruthBox | None:
        line, texts = numbered
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
                "Each object needs a name and a bndbox with xmin, ymin, xmax and ymax.",
            ) from error
        # The first pixel is 1, and the last belongs to the box. Some write 0 for the first.
        left, top = (max(side - 1.0, 0.0) for side in low)
        sides = proper_box((left, top, *high), where, "xmin is below xmax, and ymin below ymax.")
        difficult = texts.get("difficult", "0") == "1"
        found = names.find(name, where)
        return None if found is None else GroundTruthBox(sides, found, difficult)

    boxes = GroundTruthBoxes(tuple(read_all(reader.objects, read)))
    return upright_boxes(boxes, reader.size, image, str(file))


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
        self.sides: dict[str, str] = {}
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

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the image that was annotated; None if it isn't said."""
        try:
            return int(self.sides["width"]), int(self.sides["height"])
        except (KeyError, ValueError):
            return None

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
        if self.path[:2] == ["annotation", "size"] and len(inside) == 1:
            self.sides[inside[0]] = (self.sides.get(inside[0], "") + text).strip()
