"""Downloads of published files, with the reason where one fails.

One attempt, with a deadline on the connection: whoever sits in a train learns within seconds
what is missing and where to put it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import queue
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from cvx_core._util.environment import switched_on
from cvx_core.errors import CheckpointError

SECONDS = 5.0
"""How long a server may take to respond, name look-up included."""

_log = logging.getLogger(__name__)


def unreachable(url: str, seconds: float = SECONDS) -> str:
    """Return why the server of a URL does not respond, in a few words; empty if it does.

    A refusal (such as 404) counts as a response.
    """
    if switched_on("CVX_OFFLINE"):
        return "CVX_OFFLINE is set"
    parts = urlsplit(url)
    request = Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
    try:
        _open(request, seconds).close()
    except HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _reason(error)
    return ""


def fetch(url: str, path: Path, *, sha256: str = "", seconds: float = SECONDS) -> Path:
    """Download a file whole or not at all, once.

    Parameters
    ----------
    url, path
        From where, to where; an existing file is replaced.
    sha256
        First hexadecimal digits that the file's SHA-256 must have; empty checks nothing.
    seconds
        Deadline for the first response, and for each silence after it.

    Raises
    ------
    CheckpointError
        If it can't be had; the message says why in a few words, for the caller to extend.
    """
    if switched_on("CVX_OFFLINE"):
        raise CheckpointError("CVX_OFFLINE is set")
    temporary = ""
    try:
        with _open(Request(url), seconds) as response:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".cvx-", suffix=".tmp")
            size = int(response.headers.get("Content-Length") or 0)
            # A warning, so that it is seen without any set-up: the network was used.
            _log.warning("Downloading %s (%.0f MB) to %s", path.name, size / 1e6, path.parent)
            digest, received = hashlib.sha256(), 0
            with os.fdopen(handle, "wb") as stream:
                while block := response.read(1 << 20):
                    digest.update(block)
                    received += stream.write(block)
        if size and received != size:
            raise CheckpointError(f"the connection broke off after {received} of {size} bytes")
        if not digest.hexdigest().startswith(sha256):
            raise CheckpointError(
                "the SHA-256 of the download differs from that of the published file"
            )
        Path(temporary).replace(path)
        temporary = ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CheckpointError(_reason(error)) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
    return path


def _open(request: Request, seconds: float) -> Any:
    """Open a URL, giving up after `seconds` also while the name is being looked up.

    No time-out reaches the resolver, so that the attempt is made in a thread that may be left
    behind.
    """
    responses: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            responses.put(urlopen(request, timeout=seconds))
        except (OSError, http.client.HTTPException, ValueError) as error:
            responses.put(error)

    threading.Thread(target=attempt, daemon=True).start()
    try:
        response = responses.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no response within {seconds:g} s") from None
    if isinstance(response, Exception):
        raise response
    return response


def _reason(error: BaseException) -> str:
    if isinstance(error, HTTPError):
        return f"the server responded {error.code} {error.reason}"
    if isinstance(error, URLError):
        return f"no connection: {error.reason}"
    return str(error) or type(error).__name__
