"""Finished images of a run, on disk: what ``--resume`` continues from, and pages are made of.

Each has a file below ``DIR/.cvx-run`` with its entry in ``run.json`` and its maps, without the
image itself, which is read again. It is written after the other files of the image, so that an
image without one is explained again. The folder goes when the run is finished.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from cvx_core.cli.explain.run_file import Entry
from cvx_core.errors import InputError, OutputError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.output_folder import Folder
from cvx_core.models.vision_model import VisionModel

FOLDER = ".cvx-run"
_HELD = 256 * 1024**2
"""Bytes of images and maps up to which explanations stay in memory."""


@dataclass(frozen=True)
class _Kept:
    """An explanation of a run: the entry of its image, its number there, and itself if held."""

    entry: Entry
    number: int
    held: Explanation | None


class FinishedImages(Sequence[Explanation]):
    """The explanations of a run, in order; those that memory has no room for are read from disk.

    Parameters
    ----------
    folder
        Output folder of the run.
    model
        Prepares the images that are read again.
    keep
        Whether the explanations are needed after their image is finished.
    """

    def __init__(self, folder: Folder, model: VisionModel, *, keep: bool) -> None:
        self._folder, self._model, self._keep = folder, model, keep
        self._kept: list[_Kept] = []
        self._bytes = 0
        self._last: tuple[Entry, list[Explanation]] | None = None

    def add(self, entry: Entry, explanations: Sequence[Explanation]) -> None:
        """Keep what was made of an image, whose other files are written.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        maps = explanations if self._keep else []
        document = {
            "entry": entry.to_dict(),
            "explanations": [one.to_dict(arrays=False) for one in maps],
        }
        arrays: dict[str, Any] = {f"values_{k}": one.values for k, one in enumerate(maps)}
        buffer = io.BytesIO()
        np.savez(buffer, document=np.array(json.dumps(document)), **arrays)
        self._folder.write(_name(entry), buffer.getvalue(), again=True)
        for number, one in enumerate(maps):
            size = one.values.nbytes + (one.image.nbytes if number == 0 else 0)
            is_held = self._bytes + size <= _HELD
            self._bytes += size * is_held
            self._kept.append(_Kept(entry, number, one if is_held else None))

    def restore(self, entry: Entry, before: dict[str, Any]) -> None:
        """Give an entry what an earlier run found out; see `find`."""
        entry.status, entry.seconds = "explained", before["seconds"]
        entry.prediction, entry.explanations = before["prediction"], before["explanations"]
        self._folder.written += _files(before)
        if self._keep:
            self._kept += [_Kept(entry, k, None) for k in range(len(entry.explanations))]

    def find(self, entry: Entry) -> dict[str, Any] | None:
        """Return the entry of an image in an earlier run that finished it, with all its files."""
        try:
            with np.load(self._folder.place / _name(entry), allow_pickle=False) as arrays:
                document = json.loads(str(arrays["document"]))
            before: dict[str, Any] = document["entry"]
            needed = len(before["explanations"]) if self._keep else 0
            done = (
                before["sha256"] == entry.digest
                and before["status"] == "explained"
                and len(document["explanations"]) >= needed
                and all((self._folder.place / one).is_file() for one in _files(before))
            )
        # The boundary to a file that a killed run or a full disk left: whatever is wrong with it,
        # the image is explained again.
        except Exception:
            return None
        return before if done else None

    def remove(self) -> None:
        """Remove the files of finished images; the others of the run stay."""
        shutil.rmtree(self._folder.place / FOLDER, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Explanation]: ...
    def __getitem__(self, index: int | slice) -> Explanation | list[Explanation]:
        if isinstance(index, slice):
            return [self._read(one) for one in self._kept[index]]
        return self._read(self._kept[index])

    def __iter__(self) -> Iterator[Explanation]:
        for one in self._kept:
            yield self._read(one)

    def _read(self, kept: _Kept) -> Explanation:
        if kept.held is not None:
            return kept.held
        if self._last is None or self._last[0] is not kept.entry:
            self._last = None  # before the next image is in memory
            self._last = kept.entry, self._load(kept.entry)
        return self._last[1][kept.number]

    def _load(self, entry: Entry) -> list[Explanation]:
        source = entry.request.read()
        if source.digest != entry.digest:
            raise InputError(
                f"{entry.request.path} was changed during the run.", "Start over with --force."
            )
        [prepared] = self._model.prepare([source])
        path = self._folder.place / _name(entry)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                document = json.loads(str(arrays["document"]))
                values = [arrays[f"values_{k}"] for k in range(len(document["explanations"]))]
        except (OSError, ValueError, KeyError) as error:
            raise OutputError(
                f"{path} could not be read: {error}.", "Start over with --force."
            ) from error
        return [
            Explanation.from_dict(data, prepared.source.pixels, map_)
            for data, map_ in zip(document["explanations"], values, strict=True)
        ]


def _name(entry: Entry) -> str:
    return f"{FOLDER}/{entry.folder}.npz"


def _files(entry: dict[str, Any]) -> list[str]:
    return [file for one in entry["explanations"] for file in one["files"]]
