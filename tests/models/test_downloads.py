"""One attempt at the network, with a reason in a few words, and no half file."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cvx_core.errors import CheckpointError
from cvx_core.models.downloads import fetch, unreachable

CONTENT = b"weights" * 1000


class Server(BaseHTTPRequestHandler):
    """Serves one file, and one that breaks off."""

    def do_GET(self) -> None:
        if self.path not in ("/whole", "/broken"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:100])

    def do_HEAD(self) -> None:
        self.send_error(405)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return None


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("CVX_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def test_a_file_arrives_whole(url: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    path = fetch(f"{url}/whole", tmp_path / "deep" / "w.pth", sha256=digest)
    assert path.read_bytes() == CONTENT
    assert leftovers(path.parent) == [path]


@pytest.mark.parametrize(
    ("page", "sha256", "reason"),
    [
        ("missing", "", "the server responded 404"),
        ("broken", "", "broke off after 100 of 7000 bytes"),
        ("whole", "0000", "SHA-256 of the download differs"),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_nothing(
    url: str, tmp_path: Path, page: str, sha256: str, reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        fetch(f"{url}/{page}", tmp_path / "w.pth", sha256=sha256)
    assert leftovers(tmp_path) == []


def test_the_network_is_not_touched_when_it_is_forbidden(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVX_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="CVX_OFFLINE is set"):
        fetch(f"{url}/whole", tmp_path / "w.pth")
    assert unreachable(url) == "CVX_OFFLINE is set"


def test_a_server_that_refuses_the_question_is_there_all_the_same(url: str) -> None:
    assert unreachable(f"{url}/any/page") == ""


def test_a_server_that_is_not_there_is_refused_at_once(url: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "no connection" in unreachable(nobody)
    with pytest.raises(CheckpointError, match="no connection"):
        fetch(f"{nobody}/whole", tmp_path / "w.pth")


def test_a_server_that_never_answers_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert unreachable(address, seconds=0.2) in ("no response within 0.2 s", "timed out")


def test_a_name_that_takes_forever_to_look_up_is_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: forever.wait(30) and [])
    assert unreachable("http://example.invalid", seconds=0.2) == "no response within 0.2 s"
    forever.set()
