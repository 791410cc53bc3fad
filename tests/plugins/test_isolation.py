"""The boundary to foreign code: whatever is raised, it comes out as one error of ours, in words."""

from __future__ import annotations

import pytest

from cvx_core.errors import PluginError, UsageError
from cvx_core.plugins.isolation import describe_error, error_boundary, message


class MuteError(Exception):
    def __init__(self, instead: BaseException) -> None:
        self.instead = instead

    def __str__(self) -> str:
        raise self.instead


def broken(reason: str) -> PluginError:
    return PluginError(f"It failed: {reason}")


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(0), BaseException("odd"), StopIteration(), GeneratorExit()],
)
def test_whatever_is_raised_inside_becomes_the_error_with_its_cause(error: BaseException) -> None:
    says = f"It failed: {type(error).__name__}"
    with pytest.raises(PluginError, match=says) as caught, error_boundary(broken):
        raise error
    assert caught.value.__cause__ is error


def test_ctrl_c_and_errors_of_ours_pass() -> None:
    for error in (KeyboardInterrupt(), UsageError("asked wrongly")):
        with pytest.raises(type(error)) as caught, error_boundary(broken):
            raise error
        assert caught.value is error


def test_errors_of_ours_pass_only_where_they_may() -> None:
    with (
        pytest.raises(PluginError, match="UsageError: asked wrongly"),
        error_boundary(broken, passing=()),
    ):
        raise UsageError("asked wrongly")


@pytest.mark.parametrize("instead", [RuntimeError("no text"), SystemExit(3)])
def test_an_exception_that_can_not_be_read_is_told_by_its_type(instead: BaseException) -> None:
    assert message(MuteError(instead)) == "(its message can't be read)"
    assert describe_error(MuteError(instead)) == "MuteError: (its message can't be read)"


def test_of_a_long_message_the_first_line_is_told() -> None:
    assert (
        describe_error(RuntimeError("\n  sizes differ\nat kernel.cpp:7"))
        == "RuntimeError: sizes differ"
    )
    assert describe_error(ValueError()) == "ValueError"
