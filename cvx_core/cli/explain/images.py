"""Images of a run, each file read once and in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from cvx_core.cli.explain.run_file import Entry
from cvx_core.cli.kit.progress import Reporter
from cvx_core.errors import InputError, UsageError
from cvx_core.explanations.output_folder import ImageFolders
from cvx_core.images.image_files import SourceImage


class ImageReader:
    """Reads images as they are needed, and leaves out what can't be read and what comes twice.

    Parameters
    ----------
    entries
        The images, in order.
    reporter
        Hears of those that are left out.
    """

    def __init__(self, entries: Sequence[Entry], reporter: Reporter) -> None:
        self._entries, self._reporter = entries, reporter
        self._by_digest: dict[str, Entry] = {}
        self._copies: list[tuple[Entry, Entry]] = []
        self._images = self._read()

    def first(self) -> SourceImage:
        """Return the first image that can be read; it stays the first of `batches`.

        Raises
        ------
        InputError
            If there is none.
        """
        found = next(self._images, None)
        if found is None:
            raise InputError("None of the images can be read.")
        self._images = chain([found], self._images)
        return found[1]

    def batches(self, size: int) -> Iterator[list[tuple[Entry, SourceImage]]]:
        """Return the images, so many at a time.

        Raises
        ------
        UsageError
            If one image comes twice, with different labels or targets.
        """
        while batch := list(islice(self._images, size)):
            yield batch

    def left(self) -> int:
        """Return how many images are still to be explained, or found to be left out."""
        return sum(entry.status == "pending" for entry in self._entries)

    def settle(self) -> None:
        """Give images that come twice the fate of the first, if that was not explained whole."""
        for first, copy in self._copies:
            if first.status in ("failed", "partly"):
                copy.status, copy.mishaps = first.status, list(first.mishaps)

    def _read(self) -> Iterator[tuple[Entry, SourceImage]]:
        folders = ImageFolders()
        for entry in self._entries:
            try:
                image = entry.request.read()
            except InputError as error:
                entry.unreadable(error)
                self._reporter.trouble(error)
                self._reporter.advance()
                continue
            entry.digest = image.digest
            first = self._by_digest.setdefault(image.digest, entry)
            if first is entry:
                entry.folder = folders.name(entry.request.path.name, image.digest)
                yield entry, image
                continue
            self._check_same(first, entry)
            entry.status, entry.folder = "duplicate", first.folder
            self._copies.append((first, entry))
            self._reporter.note(
                f"{entry.request.shown} is the same image as {first.request.shown}."
            )
            self._reporter.advance()

    def _check_same(self, first: Entry, second: Entry) -> None:
        one, other = first.request, second.request
        if (one.label, one.targets) != (other.label, other.targets):
            raise UsageError(
                f"{other.shown} is the same image as {one.shown}, with another label.",
                "Explain it in two runs with two folders.",
            )
