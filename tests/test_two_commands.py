"""`uv run pytest` fetches what the tests need, once, and says what to do where it can't."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Environment

HERE = Path(__file__).parent


@pytest.fixture
def sparse(bare_environment: Environment) -> Environment:
    """What the demo needs and pytest, as `uv run` installs it first."""
    for link in (bare_environment.folder / "dependencies").iterdir():
        if link.name.startswith(("hypothesis", "_hypothesis", "xdist", "pytest_")):
            link.unlink()
    return bare_environment


def run(sparse: Environment, *arguments: str, **variables: str) -> tuple[int, str, str]:
    uv = sparse.folder / "uv"
    uv.write_text('#!/bin/sh\necho "uv $@"\necho "rerun $CVX_TESTS_RERUN"\nexit 7\n')
    uv.chmod(0o755)
    done = sparse.python(
        "-m", "pytest", "-p", "no:cacheprovider", *arguments, str(HERE),
        **{"UV": str(uv), **variables},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_test_group_is_fetched_and_the_arguments_passed_on(sparse: Environment) -> None:
    code, out, err = run(sparse, "-k", "one or two", "-x")
    assert code == 7, err
    said, guard = out.splitlines()
    assert said == f"uv run --group test pytest -p no:cacheprovider -k one or two -x {HERE}"
    assert guard == "rerun 1"
    assert "Fetching" in err


def test_it_is_tried_only_once(sparse: Environment) -> None:
    code, out, err = run(sparse, CVX_TESTS_RERUN="1")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "uv run" not in out
    assert "pip install" in err
    assert "'hypothesis>=" in err
    assert "cvx-core" not in err


def test_without_uv_it_says_what_to_install(sparse: Environment) -> None:
    code, _, err = run(sparse, UV="", PATH="/nowhere")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "pip install" in err
