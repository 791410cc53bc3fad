"""Commands in forks of one process that has imported what they import, which takes seconds each.

As a program it reads a command from each line and answers with its exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

IMPORTED = ("torch", "torchvision", "timm", "matplotlib.figure", "scipy.stats", "pyarrow.parquet")


class Forks:
    """A process that forks for each command; it ends with this one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def run(
        self, arguments: list[Any], cwd: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program of Python with arguments, and return its code and output."""
        out, err = cwd / ".stdout", cwd / ".stderr"
        words = [os.fsdecode(one) for one in arguments]
        files = {"cwd": str(cwd), "out": str(out), "err": str(err)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"argv": words, "env": environment, **files}), file=self._process.stdin)
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        done = subprocess.CompletedProcess(arguments, code, out.read_bytes(), err.read_bytes())
        out.unlink()
        err.unlink()
        return done

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)


def serve() -> dict[str, Any] | None:
    """Fork for each line; return the command in a fork, and None at the end of the lines."""
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            command: dict[str, Any] = json.loads(line)
            return command
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)
    return None


def become(command: dict[str, Any]) -> None:
    """Take over folder, environment, streams and arguments of a command."""
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["env"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(command["out"], flags), 1)
    os.dup2(os.open(command["err"], flags), 2)
    sys.argv = command["argv"]


if __name__ == "__main__":
    sys.path.pop(0)
    for name in IMPORTED:
        __import__(name)
    found = serve()
    if found is not None:
        become(found)
        from cvx_core.cli.entry import main

        sys.exit(main())
