"""Storage of a data set's files: a folder on this machine, or one that fsspec reads."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unicodedata import normalize

from cvx_core import InputError, UsageError, install_command

_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9+.-]+::", re.IGNORECASE)
_KEPT = 64
"""Folders whose listing is kept."""


def is_url(name: str) -> bool:
    """Say whether a name is an address that fsspec reads, such as ``s3://bucket/images``.

    Examples
    --------
    >>> is_url("s3://bucket/a.csv"), is_url("memory://a"), is_url("C:/a"), is_url("a/b.csv")
    (True, True, False, False)
    """
    return _URL.match(name) is not None


def open_url(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and its path there.

    Raises
    ------
    UsageError
        If the package that reads such addresses is not installed, or there is none.
    """
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        package = next((one for one in str(error).split() if one.isidentifier()), "")
        known = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
        known |= {"http": "aiohttp", "https": "aiohttp", "abfs": "adlfs", "az": "adlfs"}
        package = known.get(url.partition("://")[0], package)
        raise UsageError(
            f"Can't read {url}: {error}", f"Install the package: {install_command(package)}"
        ) from error
    except (ValueError, OSError) as error:
        raise UsageError(f"Can't read {url}: {error}", "Check the address.") from error
    return fs, path


class Storage:
    """Files below a root. It can be pickled; each process opens its own connection.

    Parameters
    ----------
    root
        A folder of this machine, or an address.
    """

    def __init__(self, root: str | Path) -> None:
        self.url = str(root) if is_url(str(root)) else ""
        self.root = _copies(self.url) if self.url else Path(root)
        self._listings: dict[str, dict[str, tuple[str, bool]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_listings": {}}

    def __str__(self) -> str:
        return self.url or str(self.root)

    def __truediv__(self, folder: str) -> Storage:
        if not self.url:
            return Storage(self.root / folder)
        first, chain, rest = self.url.partition("::")
        return Storage(f"{first.rstrip('/')}/{folder}{chain}{rest}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self).partition("::")[0].rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Storage:
        """The folder above."""
        if not self.url:
            return Storage(self.root.parent)
        first, chain, rest = self.url.partition("::")
        return Storage(first.rstrip("/").rpartition("/")[0] + chain + rest)

    def entries(self, folder: str = "") -> Mapping[str, bool]:
        """Return what is in a folder: names, sorted, and whether each is a folder.

        Raises
        ------
        InputError
            If it can't be listed.
        """
        return dict(self._listed(folder).values())

    def find(self, name: str) -> str | None:
        """Return a file's name as stored, whichever way Unicode writes its accents, or None.

        The folder is listed once, however many files are looked for in it.
        """
        folder, slash, last = name.rpartition("/")
        try:
            found = self._listed(folder).get(normalize("NFC", last))
        except InputError:
            self._listings[folder] = {}  # not tried again for the next file
            return None
        return None if found is None or found[1] else f"{folder}{slash}{found[0]}"

    def is_file(self, name: str) -> bool:
        """Say whether there is a file of this name."""
        if self.url:
            return self.find(name) == name
        return os.path.isfile(self.root / name)  # noqa: PTH113 - Path's raises if the name is too long

    def is_folder(self, name: str = "") -> bool:
        """Say whether there is a folder of this name."""
        if not self.url:
            return (self.root / name).is_dir()
        with suppress(InputError):
            return bool(self._listed(name))
        return False

    def fetch(self, name: str) -> Path:
        """Return a path of a file on this machine, copied there if need be.

        Raises
        ------
        InputError
            If it can't be read.
        """
        if is_url(name):
            last = name.partition("?")[0].rstrip("/").rpartition("/")[2]
            return _copy(name, "", _copies(name) / last, name)
        if not self.url:
            return self.root / name
        return _copy(self.url, name, self.root / name, f"{self}/{name}")

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Give a path of a file on this machine; a copy is removed afterwards."""
        file = self.fetch(name)
        try:
            yield file
        finally:
            if self.url or is_url(name):
                file.unlink(missing_ok=True)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes from start to end; raises `InputError`."""
        with _copied(f"{self}/{name}"):
            if not self.url:
                with (self.root / name).open("rb") as opened:
                    opened.seek(start or 0)
                    return opened.read(-1 if end is None else end - (start or 0))
            fs, base = open_url(self.url)
            return bytes(fs.cat_file(_joined(base, name), start=start, end=end))

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """Give a file opened for reading bytes; raises `InputError` where it can't be read."""
        shown = f"{self}/{name}"
        with ExitStack() as stack:
            with _copied(shown):
                if self.url:
                    fs, base = open_url(self.url)
                    stream = stack.enter_context(fs.open(_joined(base, name), "rb"))
                else:
                    stream = stack.enter_context((self.root / name).open("rb"))
            try:
                yield stream
            except OSError:
                with _copied(shown):
                    raise

    def _listed(self, folder: str) -> dict[str, tuple[str, bool]]:
        if folder not in self._listings:
            while len(self._listings) >= _KEPT:
                del self._listings[next(iter(self._listings))]
            found = sorted(self._list(folder))
            self._listings[folder] = {normalize("NFC", one[0]): one for one in found}
        return self._listings[folder]

    def _list(self, folder: str) -> Iterable[tuple[str, bool]]:
        try:
            if not self.url:
                with os.scandir(self.root / folder) as entries:
                    return [(one.name, one.is_dir()) for one in entries]
            fs, base = open_url(self.url)
            entries = fs.ls(_joined(base, folder), detail=True)
        except UsageError:
            raise
        # The boundary to storage services, whose clients raise errors of their own.
        except Exception as error:
            where = f"{self}/{folder}" if folder else str(self)
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"Can't list {where}: {reason}.", "Check its permissions.") from error
        names = [(one["name"].rstrip("/"), one["type"] == "directory") for one in entries]
        here = _joined(base, folder).strip("/")
        return [(path.rpartition("/")[2], kind) for path, kind in names if path.strip("/") != here]


def _copy(url: str, name: str, file: Path, shown: str) -> Path:
    if not file.exists():
        with _copied(shown):
            fs, base = open_url(url)
            file.parent.mkdir(parents=True, exist_ok=True)
            # Another process may copy the same: each has a name of its own.
            temporary = file.with_name(f".cvx-{os.getpid()}-{file.name}"[:200])
            fs.get_file(_joined(base, name), str(temporary))
            temporary.replace(file)
    return file


def _joined(base: str, name: str) -> str:
    if not name:
        return base
    return f"{base.rstrip('/')}/{name}" if base else name


@contextmanager
def _copied(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, UsageError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"File not found: {name}.", "Check the path.") from error
    # The boundary to storage services, whose clients raise errors of their own.
    except Exception as error:
        raise InputError(
            f"Can't read {name}: {error}.", "Check address and permissions."
        ) from error


def _copies(url: str) -> Path:
    """Return the folder that copies of an address's files go to; it is removed at the end."""
    global _folder
    if _folder is None or not _folder.exists():
        _folder = Path(tempfile.mkdtemp(prefix="cvx-diagnose-"))
        atexit.register(_remove, _folder, os.getpid())
    return _folder / hashlib.sha256(url.encode()).hexdigest()[:16]


_folder: Path | None = None


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
