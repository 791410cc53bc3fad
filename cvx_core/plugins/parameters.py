"""Parameters of components: parsing, checks, and building a component with them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from cvx_core.errors import CvxError, OptionError, PluginError, did_you_mean
from cvx_core.plugins.component import Component
from cvx_core.plugins.isolation import REPORT, error_boundary, message


def build(kind: str, component: Component, parameters: dict[str, Any]) -> Any:
    """Return the component's object, called with the parameters.

    Raises
    ------
    OptionError
        If it does not take one of the parameters, or refuses a value.
    PluginError
        If it can't be imported or built.
    """
    factory = component.load()
    if inspect.isabstract(factory):
        lacking = ", ".join(sorted(factory.__abstractmethods__))
        raise PluginError(f"The {kind} {component.name!r} does not define {lacking}.", REPORT)
    known = parameter_names(factory)
    if known is not None:
        for name in parameters:
            if name not in known:
                takes = "It takes " + ", ".join(sorted(known)) + "." if known else "It takes none."
                raise OptionError(
                    f"The {kind} {component.name!r} has no parameter {name!r}.",
                    did_you_mean(name, known) or takes,
                )
    try:
        with error_boundary(
            lambda reason: PluginError(
                f"The {kind} {component.name!r} could not be built: {reason}", REPORT
            ),
            passing=(CvxError, TypeError, ValueError),
        ):
            return factory(**parameters)
    except (TypeError, ValueError) as error:
        said = message(error).rstrip(".")
        raise OptionError(
            f"Invalid parameters for the {kind} {component.name!r}: {said}."
        ) from error


def parameter_names(factory: Any) -> set[str] | None:
    """Return the names of a factory's parameters, or None if it takes any."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return None
    kinds = [p.kind for p in signature.parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return None
    return set(signature.parameters)


def parameters_of(thing: Any) -> dict[str, Any]:
    """Return the parameters that a component was built with, for its provenance."""
    if is_dataclass(thing):
        return {f.name: getattr(thing, f.name) for f in fields(thing) if f.init}
    names = parameter_names(type(thing)) or set()
    return {name: getattr(thing, name) for name in sorted(names) if hasattr(thing, name)}


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Check that a parameter's value is one of its choices.

    Raises
    ------
    OptionError
        If it isn't; the hint has the closest choice.
    """
    known = list(choices)
    if value not in known:
        raise OptionError(
            f"{name} must be one of {', '.join(known)}, got {value!r}.",
            did_you_mean(str(value), known),
        )


def parse_parameters(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name:key=value,key=value`` as written on the command line.

    Values are numbers, true, false, none, or text; ``[a,b]`` is a list of such.

    Raises
    ------
    OptionError
        If a parameter has no value, or is given twice.
    """
    name, _, rest = text.partition(":")
    parameters: dict[str, Any] = {}
    for part in _split(rest):
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise OptionError(
                f"Invalid parameter {part.strip()!r} in {text!r}.",
                "Expected NAME:KEY=VALUE,KEY=VALUE.",
            )
        if key in parameters:
            raise OptionError(f"{key!r} is given twice in {text!r}.")
        parameters[key] = _value(value.strip())
    return name.strip(), parameters


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in [*parts, text[start:]] if part.strip()]


def _value(text: str) -> Any:
    word = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if not isinstance(word, str):
        return word
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        words = text[1:-1]
        if text[:1] + text[-1:] != "[]" or any(bracket in words for bracket in "([{}])"):
            return text
        return [_value(word.strip()) for word in _split(words)]
