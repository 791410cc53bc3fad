"""``cvx render`` with archives from anybody: nothing outside the output folder, and no waiting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from cvx_core import Artifact, Explanation, Renderer, register
from cvx_core.errors import OutputError, UsageError
from cvx_core.explanations.explanation import to_npz
from cvx_core.explanations.output_folder import RUN, Folder
from cvx_core.testing.samples import sample_explanation

if TYPE_CHECKING:
    from conftest import Outcome


@dataclass(frozen=True)
class Each(Renderer):
    """A file for each map."""

    suffix: ClassVar[str] = ".map"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(".map", "text/plain", explanations[0].name.encode())


@pytest.fixture
def render(inside: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """``cvx render`` of explanations with one renderer."""
    register(Each)

    def call(*explanations: Explanation) -> Outcome:
        Path("saved.npz").write_bytes(to_npz(explanations))
        return inside("render", "saved.npz", "-r", "each", "-o", "deep/cvx-out")

    return call


def outside(folder: Path) -> set[str]:
    """Everything below a folder that the images and the output folder don't account for."""
    known = {"saved.npz", *(f"{name}.png" for name in ("red", "green", "dark", "broken", "empty"))}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found - known if not (name + "/").startswith("deep/cvx-out/")} - {
        "deep"
    }


def named(digest: object, **changes: object) -> Explanation:
    return sample_explanation(provenance={"image_sha256": digest}).replace(**changes)


HOSTILE = ["/../../x", "/../..", "../../../x", "0" * 63 + "/", "A" * 64, "", None, 7, "\0" * 64]


@pytest.mark.parametrize("digest", HOSTILE)
def test_a_digest_in_an_archive_can_not_name_a_folder_elsewhere(
    render: Callable[..., Outcome], tmp_path: Path, digest: object
) -> None:
    done = render(named(digest))
    assert (done.code, done.traced, outside(tmp_path)) == (0, False, set())
    [file] = (tmp_path / "deep/cvx-out").rglob("*.map")
    assert file.parent.parent == tmp_path / "deep/cvx-out"
    assert set(file.parent.name.rpartition("-")[2]) <= set("0123456789abcdef")


def test_digests_that_agree_at_their_start_can_not_grow_into_a_path(
    render: Callable[..., Outcome], tmp_path: Path
) -> None:
    # Of digests with the same eight characters, more than eight go into the folder's name.
    start = "12345678"
    evil = [f"{start}/../{'../' * n}escaped{n}" for n in range(1, 6)]
    done = render(*(named(digest) for digest in [start + "0" * 56, *evil]))
    assert (done.code, done.traced, outside(tmp_path)) == (0, False, set())
    assert not list(tmp_path.parent.glob("escaped*"))


def test_a_good_digest_names_the_folder(render: Callable[..., Outcome], tmp_path: Path) -> None:
    render(named("12345678" + "0" * 56, name="cat.jpg"))
    assert (tmp_path / "deep/cvx-out/cat-12345678").is_dir()


@pytest.mark.parametrize(
    "text", ["../../x", "/etc/x", "..", "/../..", "", "a\\..\\b", "C:x", "x\0y"]
)
def test_methods_targets_and_names_of_an_archive_are_no_paths(
    render: Callable[..., Outcome], tmp_path: Path, text: str
) -> None:
    explanation = named("0" * 64)
    record = explanation.target.to_dict()
    record = {**record, "kind": text, "text": text, "classes": [], "signs": []}
    target = type(explanation.target).from_dict(record)
    done = render(explanation.replace(method=text, name=text, target=target))
    assert (done.code, done.traced, outside(tmp_path)) == (0, False, set())
    [file] = (tmp_path / "deep/cvx-out").rglob("*.map")
    assert file.parent.parent == tmp_path / "deep/cvx-out"
    assert not file.name.startswith(".")


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a\\..\\x", "C:\\x", "C:x", "\\\\host\\share\\x", ""]
)
def test_a_folder_takes_no_name_that_leads_out_of_it(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path / "out", force=True)
    with pytest.raises(OutputError, match="Invalid file name for"):
        folder.write(name, b"out")
    with pytest.raises(OutputError, match="Invalid file name for"):
        folder.check([RUN, name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "files", "replaceable"),
    [
        ("failed", [], True),
        ("failed", [RUN], True),
        ("failed", [RUN, "index.html"], False),
        ("finished", [RUN], False),
        ("running", [RUN], False),
    ],
)
def test_only_a_run_that_failed_before_it_wrote_anything_is_replaced(
    tmp_path: Path, status: str, files: list[str], replaceable: bool
) -> None:
    old = json.dumps({"schema": "cvx.run/2", "status": status, "files": files})
    (tmp_path / RUN).write_text(old)
    folder = Folder(tmp_path)
    if replaceable:
        folder.check([RUN])
        folder.write(RUN, b"new")
        assert (tmp_path / RUN).read_bytes() == b"new"
        return
    with pytest.raises(UsageError, match="already exists"):
        folder.check([RUN])
    with pytest.raises(UsageError, match="already exists"):
        folder.write(RUN, b"new")
    assert (tmp_path / RUN).read_text() == old


def test_a_pipe_is_refused_and_never_waited_for(
    inside: Callable[..., Outcome], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    done = inside("render", "pipe.npz")
    assert (done.code, done.traced) == (3, False)
    assert "Not a regular file: pipe.npz." in done.err
