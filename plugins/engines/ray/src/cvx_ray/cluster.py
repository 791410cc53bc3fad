"""Connection to a Ray cluster: an existing one is joined, otherwise one is started and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvx_core import CvxError, install_command
from cvx_core.plugins import describe_error, error_boundary

QUIET = {
    # Nothing is reported to Ray's makers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under `uv run` Ray would build the project's environment anew for its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Or it warns that it will do in future what it does for us already.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

LOOPBACK = {
    # The one switch that keeps a cluster on one machine off the network: Ray takes 127.0.0.1 as a
    # node's address only where it can't have other nodes. Named after where that is so.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}

KNOCK = 20.0
"""Seconds that a cluster has to answer."""


def imported() -> Any:
    """Return the module `ray`, told beforehand to be quiet.

    Raises
    ------
    CvxError
        If it is not installed here.
    """
    for name, value in {**QUIET, **({} if _named() else LOOPBACK)}.items():
        os.environ.setdefault(name, value)
    with error_boundary(
        lambda why: CvxError(
            f"Ray could not be imported: {why}",
            f"Install it: {install_command('cvx-core[ray]')}\nWithout it: --engine local.",
        )
    ):
        import ray
    return ray


def _named() -> str:
    return os.environ.get("RAY_ADDRESS", "")


@contextmanager
def connected(ray: Any) -> Iterator[None]:
    """Be connected to a cluster: the program's own, or RAY_ADDRESS, or one for this run.

    Raises
    ------
    CvxError
        If there is none at that address, or none can be begun.
    """
    if ray.is_initialized():
        yield
        return
    address = _named()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    folder = None
    if address:
        _check_reachable(address)
    else:
        # A socket's path may be no longer than 107 bytes.
        root = "/tmp" if Path("/tmp").is_dir() else None
        folder = tempfile.mkdtemp(prefix="cvx-ray-", dir=root)
        options |= {"include_dashboard": False, "_temp_dir": folder}
    try:
        with _signals_kept(), error_boundary(lambda why: _none(address, why)):
            ray.init(address=address or "local", **options)
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _check_reachable(address: str) -> None:
    """Knock at an address, if it is one: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), KNOCK).close()
    except OSError as error:
        raise _none(address, describe_error(error)) from error


def _none(address: str, why: str) -> CvxError:
    if address:
        return CvxError(
            f"The Ray cluster {address} could not be joined: {why}",
            "Check that it is running, with the same versions of Ray and Python. Without "
            "RAY_ADDRESS, a cluster is started on this machine.",
        )
    return CvxError(f"Ray could not be started: {why}", "Without it: --engine local.")


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave SIGTERM to whom it belongs; Ray takes it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
