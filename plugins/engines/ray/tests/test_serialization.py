"""The work travels: what comes along, what can't, and where in a cluster it is put."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cvx_engine.testing.sample_work import SampleWork
from cvx_ray.cluster import imported
from cvx_ray.engine import _Share
from cvx_ray.serialization import pack, pack_work

from cvx_core import CvxError, install_command, load_model

NET = """
from neighbour import Twice
from cvx_core import VisionModel
from cvx_core.testing.models import CLASSES, convolutional

def make():
    return VisionModel(convolutional().module, preprocess=Twice(), classes=CLASSES)
"""
NEIGHBOUR = """
FACTOR = 2

class Twice:
    def __call__(self, number):
        return FACTOR * number
"""


def test_code_of_a_file_comes_along_with_what_the_file_imports(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    model = load_model(f"{tmp_path / 'net.py'}:make")
    (tmp_path / "packed").write_bytes(pack(model.preprocess))
    (tmp_path / "net.py").unlink()
    (tmp_path / "neighbour.py").unlink()
    code = (
        "import sys, pathlib\n"
        "from cvx_ray.serialization import unpack\n"
        "print(unpack(pathlib.Path(sys.argv[1]).read_bytes())(21))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "packed")], capture_output=True, text=True
    )
    assert done.stdout == "42\n", done.stderr


def test_what_can_not_be_sent_is_told_with_the_way_out() -> None:
    with pytest.raises(CvxError, match="can't be sent to other processes: TypeError") as caught:
        pack(threading.Lock())
    assert "--engine local" in caught.value.hint


def test_work_leaves_the_accelerator_to_be_sent_and_returns(tmp_path: Path) -> None:
    class Moves(SampleWork):
        device = "cuda:1"
        went: tuple[str, ...] = ()

        def to(self, device: str) -> None:
            self.went += (device,)

    work = Moves(tmp_path)
    pack_work(work)
    assert work.went == ("cpu", "cuda:1")


def test_without_ray_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CvxError, match="could not be imported") as caught:
        imported()
    assert install_command("cvx-core[ray]") in caught.value.hint


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [
        # A GPU each, and what decodes has the other CPUs, up to sixteen for each.
        ({"CPU": 16, "GPU": 4}, {}, _Share(4, 12, 1.0, True)),
        ({"CPU": 256, "GPU": 4}, {}, _Share(4, 64, 1.0, True)),
        ({"CPU": 16, "GPU": 4}, {"device": "cpu"}, _Share(12, 4, 1.0, False)),
        ({"CPU": 16}, {}, _Share(12, 4, 1.0, False)),
        # Too few CPUs are shared, or one would be waited for that never comes.
        ({"CPU": 2}, {}, _Share(1, 1, 1.0, False)),
        ({"CPU": 1}, {}, _Share(1, 1, 0.5, False)),
        ({"CPU": 2}, {"models": 2, "decoders": 1}, _Share(2, 1, 0.6666, False)),
        ({"CPU": 2, "GPU": 8}, {}, _Share(8, 1, 0.2222, True)),
    ],
)
def test_a_cluster_is_never_asked_for_more_than_it_has(
    resources: dict[str, float], asked: dict[str, object], expected: _Share
) -> None:
    given = {"models": None, "decoders": None, "device": None, **asked}
    assert _Share.of(resources, **given) == expected  # type: ignore[arg-type]
