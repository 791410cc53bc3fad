"""Trials of mutations: tests that run in a private copy of the work tree."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory

from mutation.sample import Mutation, mutated

STAGES = ("mirrored", "wider", "whole")
DIRECT = 100
"""Weight of a name in a test, against one in the tested plugin or a module that imports it."""
ELSEWHERE = {"UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "PYTHONPATH"}
"""Variables that would lead from the copy to the environment of the work tree."""


@dataclass(frozen=True)
class Tree:
    """A work tree whose modules may be changed, and the interpreter that imports them."""

    folder: Path
    python: Path = Path(sys.executable)

    def tests(self) -> list[str]:
        """All test files."""
        found = [p for top in ("tests", "plugins") for p in (self.folder / top).rglob("test_*.py")]
        return sorted(p.relative_to(self.folder).as_posix() for p in found if "src" not in p.parts)

    def stages(self, module: str) -> list[list[str]]:
        """Test files of each stage, those first that are most likely to notice."""
        mirrored = self._mirrored(module)
        used = self._uses(module)
        wider = [test for test, _ in used.most_common() if test not in mirrored]
        return [mirrored, wider, [t for t in self.tests() if t not in {*mirrored, *wider}]]

    def _mirrored(self, module: str) -> list[str]:
        """Test files of a module, then the others of its folder or of the nearest one above."""
        path = Path(module)
        folder = Path("tests", *path.parts[1:-1])
        while not (self.folder / folder).is_dir():
            folder = folder.parent
        every, name = self.tests(), f"test_{path.stem}.py"
        near = [t for t in every if folder.name != "tests" and t.startswith(f"{folder}/")]
        named = [test for test in every if Path(test).name == name]
        named.sort(key=lambda test: test not in near)
        return [*named, *(test for test in near if test not in named)]

    def _uses(self, module: str) -> Counter[str]:
        """Uses of a module by each test file, by what its plugin imports and by the core."""
        body = ast.parse((self.folder / module).read_text()).body
        names = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        dotted = module.removesuffix(".py").replace("/", ".")
        word = re.compile(rf"\b({'|'.join([re.escape(dotted), *names])})\b")
        used: Counter[str] = Counter()
        for test in self.tests():
            inside = re.match(r"plugins/\w+/[\w-]+/", test)
            code = (self.folder / inside[0] / "src").rglob("*.py") if inside else ()
            used[test] = DIRECT * len(set(word.findall((self.folder / test).read_text())))
            used[test] += len(set(word.findall("".join(path.read_text() for path in code))))
        for path in (self.folder / Path(module).parts[0]).rglob("*.py"):
            if dotted in path.read_text():
                used.update(self._mirrored(path.relative_to(self.folder).as_posix()))
        return +used

    @contextmanager
    def changed(self, mutation: Mutation) -> Iterator[str]:
        """The mutation in its module until the block ends; the value is the code after it."""
        path = self.folder / mutation.module
        source = path.read_text()
        code = mutated(source, mutation)
        assert code is not None
        cached = Path(cache_from_source(str(path)))  # its time stamp has whole seconds only
        try:
            path.write_text(code)
            cached.unlink(missing_ok=True)
            yield code
        finally:
            path.write_text(source)
            cached.unlink(missing_ok=True)

    def run(self, tests: list[str], longest: float, *options: str) -> tuple[str, list[str]]:
        """Outcome of test files, and the tests that failed, each with its reason.

        Parameters
        ----------
        tests
            Paths below the folder.
        longest
            Seconds after which they are stopped.
        options
            Options of pytest.
        """
        command = (str(self.python), "-m", "pytest", "-q", "--tb=no", "-rfE", *options)
        process = subprocess.Popen(
            [*command, "-p", "no:cacheprovider", *tests],
            cwd=self.folder,
            env={**inherited(), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed = process.communicate(timeout=longest)[0]
        except subprocess.TimeoutExpired:
            return "timed out", [f"all tests took over {longest:.0f} s"]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode in (0, 5):  # 5: no test was collected
            return "survived", []
        lines = printed.splitlines() or [f"exit {process.returncode}"]
        failures = [re.sub("^(FAILED|ERROR) ", "", s) for s in lines if re.match("FAILED|ERROR", s)]
        if not failures and process.returncode in (-signal.SIGTERM, -signal.SIGINT, 2):
            raise KeyboardInterrupt  # somebody ended the tests
        timed_out = any("Failed: Timeout" in failure for failure in failures)
        return "timed out" if timed_out else "caught", failures or lines[-1:]


def inherited() -> dict[str, str]:
    """Environment variables for programs that run in a copy."""
    return {key: value for key, value in os.environ.items() if key not in ELSEWHERE}


@contextmanager
def copied(root: Path) -> Iterator[Tree]:
    """A copy of the work tree, with an environment of its own, until the block ends."""
    with TemporaryDirectory(prefix="cvx-mutation-") as name:
        folder = Path(name).resolve()
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout
        for file in [*files.split("\0"), "uv.lock"]:
            if (root / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / file, folder / file)
        sync = [os.environ.get("UV", "uv"), "sync", "--quiet", "--group", "test", "--all-packages"]
        subprocess.run(sync, cwd=folder, env=inherited(), check=True)
        tree = Tree(folder, folder / ".venv" / "bin" / "python")
        where = [str(tree.python), "-c", "import cvx_core; print(cvx_core.__file__)"]
        found = subprocess.run(
            where, cwd="/", env=inherited(), capture_output=True, text=True
        ).stdout
        assert Path(found.strip()).is_relative_to(folder), f"tests would import {found}"
        yield tree
