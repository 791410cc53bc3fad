"""Output folder of a run: names that are safe everywhere, files overwritten on request only."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any

from cvx_core._util.files import write_atomic
from cvx_core.errors import OutputError, PluginError, UsageError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.renderer import Renderer
from cvx_core.explanations.results import Artifact
from cvx_core.plugins.isolation import REPORT, error_boundary

RUN = "run.json"
STEM_BYTES = 80
"""Longest stem in a folder's name; file systems allow 255 bytes for the whole name."""


def settled(path: Path) -> Path:
    """Return an absolute path, which stays valid if a plugin changes the working folder."""
    try:
        return path.absolute()
    except OSError:  # the working folder was deleted; using the path says so better
        return path


def safe_stem(name: str) -> str:
    """Return the stem of a file name in a form that every file system takes.

    Letters, digits and marks of any script stay, with ``_`` and ``-``; everything else, dots and
    control characters too, becomes a hyphen. At most 80 bytes in UTF-8; ``image`` if nothing
    is left.

    Examples
    --------
    >>> safe_stem("holiday (1).tar.jpg"), safe_stem("..")
    ('holiday-1-tar', 'image')
    """
    stem = unicodedata.normalize("NFC", Path(name).stem)
    kept = [c if unicodedata.category(c)[0] in "LMN" or c in "_-" else "-" for c in stem]
    short = "".join(kept).encode()[:STEM_BYTES].decode(errors="ignore")
    return re.sub(r"--+", "-", short).strip("-_") or "image"


class ImageFolders:
    """Names of the folders of a run, one for each image: stem and eight digits of its content."""

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}

    def name(self, file_name: str, digest: str) -> str:
        """Return the folder for an image.

        Parameters
        ----------
        file_name
            The image's own.
        digest
            SHA-256 of its content, hexadecimal; more than eight digits are used only where two
            contents agree in them.
        """
        for digits in range(8, 65, 8):
            folder = f"{safe_stem(file_name)}-{digest[:digits]}"
            # Some file systems take Cat-1234 and cat-1234 for one folder.
            if self._owner.setdefault(folder.casefold(), digest) == digest:
                break
        return folder


class Names:
    """Hands out names that differ, also without regard to case: ``x``, ``x-2``, ``x-3``."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}

    def fresh(self, wanted: str) -> str:
        """Return `wanted`, or `wanted` with the first number that makes it new."""
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name


def slug(text: str, longest: int = 60) -> str:
    """Return text in lower case with hyphens between its letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-")


class Drawing:
    """Renderers with the files they fill: one for each map, or one for the whole run.

    Parameters
    ----------
    renderers
        By the text they were requested by.

    Attributes
    ----------
    each
        Those that draw every map on its own, by that text.
    joined
        Those that draw the run as a whole, by the name of their file.

    Raises
    ------
    PluginError
        If a renderer fails to give its extension, or gives an invalid one.
    """

    def __init__(self, renderers: Mapping[str, Renderer]) -> None:
        traits = {name: _traits(one) for name, one in renderers.items()}
        self.each = {name: one for name, one in renderers.items() if not traits[name][0]}
        self._suffix = {name: suffix for name, (_, suffix) in traits.items()}
        suffixes = [self._suffix[name] for name in self.each]
        # Two renderers of one format write side by side.
        self._part = {
            name: f".{slug(name)}" if suffixes.count(self._suffix[name]) > 1 else ""
            for name in self.each
        }
        names = Names([RUN])
        self.joined: dict[str, Renderer] = {}
        for name, one in renderers.items():
            if name not in self.each:
                suffix = self._suffix[name]
                page = "index" if suffix == ".html" else "explanations"
                fresh = names.fresh(page + suffix)
                if fresh != page + suffix:
                    fresh = names.fresh(slug(name) + suffix)
                self.joined[fresh] = one

    def files(self, name: str) -> list[str]:
        """Return the names of the files that a map called `name` gets."""
        return [f"{name}{self._part[key]}{self._suffix[key]}" for key in self.each]

    def draw(self, key: str, name: str, explanation: Explanation) -> tuple[str, bytes]:
        """Return the name and the bytes of the file of one map, drawn by one renderer.

        Raises
        ------
        PluginError
            If the renderer fails, or gives an invalid file name extension.
        """
        artifact = rendered(self.each[key], [explanation])
        return f"{name}{self._part[key]}{artifact.suffix}", artifact.data


def rendered(renderer: Renderer, explanations: Sequence[Explanation]) -> Artifact:
    """Return a renderer's artifact; its failures become a `PluginError`.

    Raises
    ------
    PluginError
        If it raises anything that is no error of ours, or what it returns is no artifact.
    """
    name = type(renderer).__name__
    # The plugin boundary: a renderer may raise anything, which costs its own artifact only.
    with error_boundary(
        lambda reason: PluginError(f"The renderer {name} failed: {reason}", REPORT),
        passing=(OutputError, PluginError, UsageError),
    ):
        artifact: Any = renderer.render(explanations)
        if not isinstance(artifact, Artifact) or not isinstance(artifact.data, bytes):
            got = type(getattr(artifact, "data", artifact)).__name__
            raise PluginError(
                f"The renderer {name} must return an Artifact with bytes, got {got}.", REPORT
            )
        return Artifact(_extension(name, artifact.suffix), artifact.media_type, artifact.data)


def _traits(renderer: Renderer) -> tuple[bool, str]:
    """Return whether a renderer joins, and its suffix, which a plugin may compute."""
    name = type(renderer).__name__
    with error_boundary(
        lambda reason: PluginError(f"The renderer {name} failed: {reason}", REPORT)
    ):
        suffix = renderer.suffix
        # With none of its own, it gives one with each artifact.
        return bool(renderer.joins), "" if suffix == "" else _extension(name, suffix)


def _extension(renderer: str, suffix: Any) -> str:
    if isinstance(suffix, str) and re.fullmatch(r"(\.[A-Za-z0-9]{1,16}){1,3}", suffix):
        return suffix
    raise PluginError(f"The renderer {renderer} asks for the extension {suffix!r}.", REPORT)


class Folder:
    """Output folder: files are written atomically, and overwritten only on request.

    The ``run.json`` of a run that failed before it wrote anything else may always be replaced.

    Parameters
    ----------
    path
        The folder; it is made with the first file.
    force
        Whether files that are there are replaced.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path, self.force = path, force
        self._place = settled(path)
        self.written: list[str] = []

    @property
    def place(self) -> Path:
        """The path from the root."""
        return self._place

    def check(self, names: Iterable[str]) -> None:
        """Refuse early what could not be written later.

        Raises
        ------
        UsageError
            If one of the files is there and may not be replaced.
        OutputError
            If the folder can't be written to.
        """
        there = {name: os.path.lexists(self._below(name)) for name in names}
        place = self._place
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            shown = self.path if place == self._place else place
            raise OutputError(f"Not a folder: {shown}.", "Choose a folder with -o.")
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"No permission to write to {place}.", "Choose a folder with -o.")
        if self.force:
            return
        if _is_of_a_run_in_vain(self._below(RUN)):
            there.pop(RUN, None)
        taken = [name for name, is_there in there.items() if is_there]
        if taken:
            raise self._refused(taken[0], len(taken) - 1)

    def subfolders(self) -> list[str]:
        """Return the names of the folders in it."""
        try:
            return [one.name for one in os.scandir(self._place) if one.is_dir()]
        except OSError:
            return []

    def write(self, name: str, data: bytes, *, again: bool = False) -> None:
        """Write a file below the folder; `again` replaces one that this run wrote itself.

        Raises
        ------
        UsageError
            If it is there and may not be replaced; another run may have made it since `check`.
        OutputError
            If the disk refuses, the folder has vanished, or the name leads out of it.
        """
        place, overwrite = self._below(name), self.force or again
        if self.written and not self._place.is_dir():
            raise OutputError(
                f"The output folder {self.path} is gone, with what was written to it.",
                "Check that its disk is mounted. Start over, or choose another folder with -o.",
            )
        if name == RUN and not again and _is_of_a_run_in_vain(place):
            # Looked at anew, and taken away rather than written over: of two runs that meet here
            # the second finds the first one's.
            place.unlink(missing_ok=True)
        try:
            write_atomic(place, data, overwrite=overwrite)
        except OutputError as error:
            if not overwrite and os.path.lexists(place):
                raise self._refused(name) from error
            shown = error.message.replace(str(self._place), str(self.path), 1)
            raise OutputError(shown, error.hint) from error
        if not again:
            self.written.append(name)

    def take_back(self) -> None:
        """Remove what was written."""
        for name in self.written:
            with suppress(OSError):
                self._below(name).unlink(missing_ok=True)
        self.written.clear()

    def mark(self, name: str, old: bytes, new: bytes) -> None:
        """Put bytes in the place of as many others, for which a full disk has room.

        Does nothing where the file can't be read or written, or doesn't hold them.
        """
        assert len(old) == len(new)
        with suppress(OSError), self._below(name).open("r+b") as file:
            start = file.read().find(old)
            if start >= 0:
                file.seek(start)
                file.write(new)

    def _below(self, name: str) -> Path:
        # The names are made to be harmless; this is the second wall. Windows' rules know both
        # slashes and drives.
        parts = PureWindowsPath(name)
        if not name or parts.anchor or ".." in parts.parts:
            raise OutputError(f"Invalid file name for {self.path}: {name!r}.")
        return self._place / name

    def _refused(self, name: str, others: int = 0) -> UsageError:
        more = f" (and {others} more)" if others else ""
        return UsageError(
            f"File already exists: {self.path / name}{more}.",
            "Choose another folder with -o, or overwrite existing files with --force.",
        )


def _is_of_a_run_in_vain(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or not str(document.get("schema")).startswith("cvx.run/"):
        return False
    return document.get("status") == "failed" and document.get("files") in ([], [RUN])


def encode_json(document: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8; file names that are no UTF-8 keep their bytes as ``\\udcXX``."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False, default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"
