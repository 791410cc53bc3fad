"""Runs over data sets at addresses: in memory, and on a local S3 server."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from cvx_diagnose import Run, diagnose, open_source
from cvx_engine.local import Local
from PIL import Image

from cvx_core import UsageError, VisionModel, install_command
from cvx_core.testing.models import CLASSES

QUICK: dict[str, Any] = {"block_size": 4, "budget": 0.0, "engine": Local(workers=2)}
Same = Callable[[pa.Table, pa.Table], bool]


def images() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    found = {}
    for name in CLASSES:
        for k in range(2):
            stream = io.BytesIO()
            pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(stream, "PNG")
            found[f"{name}/{k}.png"] = stream.getvalue()
    return found


def shard() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in images().items():
            key = name.replace("/", "-").removesuffix(".png")
            for ending, content in (("png", data), ("cls", name.partition("/")[0].encode())):
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a local S3 server, and give its file system."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    running.start()
    try:
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("set")
        yield fs
    finally:
        running.stop()


def rows(run: Run) -> pa.Table:
    return run.table(["sha256", "label", "predicted", "loss", "status"])


def test_a_run_from_memory_resumes_and_gives_the_rows_of_local_files(
    model: VisionModel, tmp_path: Path
) -> None:
    fs = fsspec.filesystem("memory")
    for name, data in images().items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
        fs.pipe(f"/run/{name}", data)
    fs.pipe("/run-tar/0.tar", shard())
    try:
        here = diagnose(model, tmp_path / "set", tmp_path / "here", **QUICK)
        half = diagnose(model, "memory://run", tmp_path / "there", shard=(0, 2), **QUICK)
        assert half.pending
        there = diagnose(model, "memory://run", tmp_path / "there", resume=True, **QUICK)
        assert not there.pending
        assert rows(there).equals(rows(here))
        tar = diagnose(model, "memory://run-tar", tmp_path / "tar", **QUICK)
        assert rows(tar).equals(rows(here))
    finally:
        fs.rm("/run", recursive=True)
        fs.rm("/run-tar", recursive=True)


@pytest.mark.slow
def test_a_run_from_s3_gives_the_rows_of_local_files(
    server: Any, model: VisionModel, tmp_path: Path
) -> None:
    for name, data in images().items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
        server.pipe(f"set/{name}", data)
    server.mkdir("set-tar")
    server.pipe("set-tar/0.tar", shard())
    lines = [json.dumps({"path": name, "label": name[:3]}) for name in images()]
    server.pipe("set/list.jsonl", "\n".join(lines).encode())
    here = diagnose(model, tmp_path / "set", tmp_path / "here", **QUICK)
    for k, address in enumerate(("s3://set", "s3://set-tar/0.tar", "s3://set/list.jsonl")):
        there = diagnose(model, address, tmp_path / str(k), **QUICK)
        assert there.table(status="ok").num_rows == 10, address
        assert rows(there).equals(rows(here)), address


def test_an_address_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UsageError, match="Install s3fs to access S3") as error:
        open_source("s3://set/images", "classification", CLASSES)
    assert error.value.hint == f"Install the package: {install_command('s3fs')}"
