"""Clusters of all kinds: small, of several machines, joined, losing a machine, interrupted.

Each is a process of its own, since a program is in one cluster at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cvx_diagnose import Run, diagnose
from cvx_engine import Local
from cvx_engine.testing.conformance import assert_ended
from dispositions import reset_signals

from cvx_core import VisionModel

pytestmark = pytest.mark.slow

Same = Callable[[pa.Table, pa.Table], bool]
Make = Callable[..., VisionModel]

NET = """
import os, signal, time
from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES, convolutional

class Treacherous:
    def __init__(self, pause):
        self.inner, self.pause = Preprocess(crop=32), pause

    def __call__(self, image):
        time.sleep(self.pause)
        if image.getpixel((0, 0)) == (255, 0, 255):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(image)

def make(pause=0.0):
    return VisionModel(convolutional().module, Treacherous(pause), CLASSES, name="net")

def slow():
    return make(0.05)
"""

SMALL = """
import ray
ray.init("local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
go_on()
assert ray.is_initialized()
"""

OTHERS = """
import os, ray
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=2)
os.environ["RAY_ADDRESS"] = cluster.address
"""

JOINED = (
    OTHERS
    + """
go_on()
assert not ray.is_initialized()
ray.init(cluster.address, log_to_driver=False)
assert sum(node["Alive"] for node in ray.nodes()) == 2
"""
)

LOSES = (
    OTHERS
    + """
import threading
from cvx_engine import Listener

class Loses(Listener):
    lost = False
    def done(self, block, rows):
        if not self.lost:
            self.lost = True
            cluster.remove_node(other, allow_graceful=False)

go_on(slow(), Loses())
"""
)

# Both machines are this one. What decodes on it for the run itself is a child of the run.
BLIND = (
    OTHERS
    + """
HOME = os.getpid()

class Blind(Treacherous):
    def __init__(self, home):
        super().__init__(0.0)
        self.home = home

    def __call__(self, image):
        if self.home not in (os.getpid(), os.getppid()):
            raise OSError("no such folder here")
        return super().__call__(image)

model = make()
model.preprocess = Blind(HOME)
go_on(model)
"""
)


def script(code: str, data: Path, folder: Path) -> str:
    return (
        f"{NET}\n"
        "def go_on(model=None, listener=None):\n"
        "    from cvx_diagnose import diagnose\n"
        f"    diagnose(model or make(), {str(data)!r}, {str(folder)!r}, engine='ray',\n"
        "             resume=True, block_size=8, batch_size=4, budget=0.0, listener=listener)\n"
        f"\n{code}"
    )


def ran(code: str, data: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script(code, data, folder)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )


def whole(model: Make, photographs: Path, folder: Path) -> pa.Table:
    asked: dict[str, Any] = {"block_size": 8, "batch_size": 4, "budget": 0.0}
    return diagnose(model(), photographs, folder, engine=Local(workers=2), **asked).table()


@pytest.mark.parametrize(
    "code",
    [SMALL.replace("CPUS", "1"), SMALL.replace("CPUS", "2"), JOINED, LOSES],
    ids=["one CPU", "two CPUs", "joined", "losing a machine"],
)
def test_it_ends_with_the_same_rows_on_any_cluster(
    model: Make, photographs: Path, tmp_path: Path, same: Same, code: str
) -> None:
    expected = whole(model, photographs, tmp_path / "whole")
    # Some is there already, so that the run is gone on with.
    run = tmp_path / "run"
    (tmp_path / "whole/summary.json").unlink()
    (tmp_path / "whole").rename(run)
    for block in (0, 1, 3, 4, 5, 6):
        (run / f"rows/block-{block:06d}.parquet").unlink()
    done = ran(code, photographs, run)
    assert done.returncode == 0, done.stderr
    assert same(Run(run).table(), expected)
    assert Run(run).summary is not None


def test_a_cluster_that_is_not_there_is_told(photographs: Path, tmp_path: Path) -> None:
    code = "import os\nos.environ['RAY_ADDRESS'] = '127.0.0.1:1'\ngo_on()"
    done = ran(code, photographs, tmp_path / "run")
    assert "The Ray cluster 127.0.0.1:1 could not be joined" in done.stderr
    assert "Without RAY_ADDRESS, a cluster is started on this machine" in done.stderr


def test_a_machine_that_does_not_see_the_inputs_is_told(photographs: Path, tmp_path: Path) -> None:
    done = ran(BLIND, photographs, tmp_path / "run")
    assert "can't read the inputs of the run" in done.stderr
    assert not list((tmp_path / "run/rows").iterdir())


def test_ctrl_c_finishes_the_blocks_at_work_and_says_how_to_go_on(
    model: Make, photographs: Path, tmp_path: Path, same: Same
) -> None:
    expected = whole(model, photographs, tmp_path / "whole")
    (tmp_path / "net.py").write_text(NET)
    asked = "diagnose data -m net.py:slow --block 2 --batch 4 --budget 0 --engine ray -o run"
    process = subprocess.Popen(
        [sys.executable, "-m", "cvx_core.cli", *asked.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=reset_signals,
    )
    rows = tmp_path / "run/rows"
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(rows.glob("block-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # As a terminal does it: the whole group hears it.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Finishing the current block" in err
    assert "resume with --resume" in err
    assert "Traceback" not in err
    done = len(list(rows.glob("block-*")))
    assert 0 < done < 26
    assert_ended(members(process.pid))
    run = diagnose(
        model(), photographs, tmp_path / "run", resume=True, block_size=2, batch_size=4, budget=0.0
    )
    assert run.table()["id"].to_pylist() == expected["id"].to_pylist()


def members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(int(entry.parent.name))
    return found
