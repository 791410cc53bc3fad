"""Parameters: read from text, checked against what a component takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cvx_core.errors import CvxError, MethodError, OptionError, PluginError
from cvx_core.plugins.component import Component
from cvx_core.plugins.parameters import (
    build,
    check_choice,
    parameter_names,
    parameters_of,
    parse_parameters,
)
from cvx_core.recording import Requirements


@dataclass(frozen=True)
class Method:
    layer: str = "auto"
    steps: int = 8
    cached: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")
        if self.layer == "bad":
            raise MethodError("no such layer")


COMPONENT = Component("method", "", Method)


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("class-attention", "class-attention", {}),
        ("a:", "a", {}),
        ("a:layer=layer4", "a", {"layer": "layer4"}),
        ("a:layer=layer4.2.conv3", "a", {"layer": "layer4.2.conv3"}),
        ("a:n=3,x=0.5,e=1e-3", "a", {"n": 3, "x": 0.5, "e": 1e-3}),
        ("a:yes=true,no=FALSE,none=None", "a", {"yes": True, "no": False, "none": None}),
        ("a:query=[3,4],n=1", "a", {"query": [3, 4], "n": 1}),
        ("a:query=(3, 4)", "a", {"query": (3, 4)}),
        ("a: n = 3 , m = b ", "a", {"n": 3, "m": "b"}),
        ("a:max-side=3", "a", {"max_side": 3}),
        ("a:layers=[blocks.4, 'blocks.5'],n=1", "a", {"layers": ["blocks.4", "blocks.5"], "n": 1}),
        ("a:mixed=[b,3,none,2nd]", "a", {"mixed": ["b", 3, None, "2nd"]}),
        ("a:nested=[b,[c]],half=[b", "a", {"nested": "[b,[c]]", "half": "[b"}),
        ("a:text='3'", "a", {"text": "3"}),
        ("a:x=b=c", "a", {"x": "b=c"}),
        ("a:x=", "a", {"x": ""}),
        ("a@dist:x=1", "a@dist", {"x": 1}),
        ("a:call=__import__('os')", "a", {"call": "__import__('os')"}),
    ],
)
def test_parameters_are_read_as_they_are_written(
    text: str, name: str, parameters: dict[str, Any]
) -> None:
    assert parse_parameters(text) == (name, parameters)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:layer", "NAME:KEY=VALUE"),
        ("a:=3", "Invalid parameter"),
        ("a:two words=3", "Invalid parameter"),
        ("a:x=1,x=2", "given twice"),
    ],
)
def test_what_is_no_parameter_is_refused(text: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse_parameters(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        name, parameters = parse_parameters(text)
    except OptionError:
        return
    assert isinstance(name, str)
    assert all(key.isidentifier() for key in parameters)


@given(st.text("([{,=:}])a1'\"\\", max_size=40))
def test_brackets_and_quotes_in_any_order_are_read_or_refused(text: str) -> None:
    try:
        parse_parameters("a:" + text)
    except OptionError:
        return


def test_very_deep_brackets_are_text() -> None:
    deep = "(" * 100_000
    assert parse_parameters(f"a:x={deep}") == ("a", {"x": deep})


def test_a_component_is_built_with_its_parameters() -> None:
    assert build("explainer", COMPONENT, {"steps": 3}) == Method(steps=3)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"step": 3}, "Did you mean 'steps'"),
        ({"zzz": 3}, "It takes layer, steps"),
        ({"cached": 3}, "no parameter 'cached'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": "many"}, "Invalid parameters for the"),
    ],
)
def test_a_parameter_that_is_not_taken_names_the_way_out(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        build("explainer", COMPONENT, parameters)


def test_a_choice_that_there_is_not_names_the_one_that_is_meant_or_all() -> None:
    check_choice("mode", "energy", ("energy", "rollout"))
    with pytest.raises(
        OptionError, match="mode must be one of energy, rollout, got 'enrgy'"
    ) as caught:
        check_choice("mode", "enrgy", ("energy", "rollout"))
    assert caught.value.hint == "Did you mean 'energy'?"
    for odd in ("zzz", 3, ["energy"], None):
        with pytest.raises(OptionError) as caught:
            check_choice("mode", odd, ("energy", "rollout"))
        assert caught.value.message == f"mode must be one of energy, rollout, got {odd!r}."


def test_a_component_s_own_error_passes_unchanged() -> None:
    with pytest.raises(MethodError, match="no such layer"):
        build("explainer", COMPONENT, {"layer": "bad"})


def test_a_missing_parameter_is_an_option_error() -> None:
    def factory(needed: int) -> int:
        return needed

    with pytest.raises(OptionError, match="needed"):
        build("explainer", Component("f", "", factory), {})


def test_parameters_are_told_for_the_provenance() -> None:
    assert parameters_of(Method(steps=2)) == {"layer": "auto", "steps": 2}
    assert parameter_names(Method) == {"layer", "steps"}
    assert parameter_names(lambda **anything: None) is None


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), SystemExit(0), BaseException("odd"), AttributeError("gone")]
)
def test_what_else_a_component_raises_is_the_plugins_failure(error: BaseException) -> None:
    def factory() -> int:
        raise error

    with pytest.raises(PluginError, match="'f' could not be built: ") as caught:
        build("explainer", Component("f", "", factory), {})
    assert caught.value.__cause__ is error


def test_a_class_that_is_not_finished_names_the_methods_that_it_lacks() -> None:
    class Half(ABC):
        @abstractmethod
        def second(self) -> None: ...
        @abstractmethod
        def first(self) -> None: ...

    with pytest.raises(PluginError, match="'half' does not define first, second"):
        build("explainer", Component("half", "", Half), {})


def test_a_refusal_ends_in_one_full_stop() -> None:
    def factory(sigma: float) -> None:
        raise ValueError("sigma is negative.")

    with pytest.raises(OptionError) as caught:
        build("explainer", Component("f", "", factory), {"sigma": -1})
    assert caught.value.message.endswith(": sigma is negative.")


def test_every_refusal_is_one_of_ours() -> None:
    with pytest.raises(CvxError):
        build("explainer", Component("gone", "", "no_such_module_of_ours:X"), {})


@pytest.mark.parametrize("value", ["{[]:1}", "{{}}", "{[1]}"])
def test_what_is_no_value_stays_text(value: str) -> None:
    assert parse_parameters(f"x:a={value}") == ("x", {"a": value})


def test_a_list_is_no_layer() -> None:
    with pytest.raises(OptionError, match=r"(?s)one name.*\[A,B\]") as caught:
        Requirements(["a", "b"])  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
