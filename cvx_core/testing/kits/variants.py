"""Variants of explainers: each with its default parameters, and with each of its options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import product
from typing import Any, get_args, get_type_hints

import numpy as np
import torch

from cvx_core.api import explain, get_explainer
from cvx_core.errors import CvxError, OptionError
from cvx_core.explainers.method import Method
from cvx_core.explanations.explanation import Explanation
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import registry
from cvx_core.tasks.targets import Error, Margin, Predicted, Target

Parameters = dict[str, Any]

TARGETS = (Predicted(), Error(), Margin())


def check_all_explainers(
    model: VisionModel, inputs: torch.Tensor, label: Any, given: Mapping[str, Mapping[str, Any]]
) -> tuple[int, int]:
    """Run every installed explainer with each of its options on one image; see `check_explainer`.

    Parameters
    ----------
    model
        The model.
    inputs
        A prepared image (1, 3, H, W).
    label
        Its ground truth, which the prediction is not.
    given
        Parameters of explainers by name, such as those that make them faster.

    Returns
    -------
    int, int
        How many maps were made, and how many variants of explainers tried.
    """
    center, made, tried = (inputs.shape[-1] / 2, inputs.shape[-2] / 2), 0, 0
    for name in registry().names("explainer"):
        for parameters in variants(name, given.get(name, {}), center):
            tried += 1
            made += len(check_explainer(model, inputs, name, parameters, TARGETS, label))
    return made, tried


def variants(name: str, given: Mapping[str, Any], center: tuple[float, float]) -> list[Parameters]:
    """Return parameters of an explainer: all combinations of its switches and choices.

    And one more each with a position, with the network's input as the layer, and with other values
    of each number, where it takes them.

    Parameters
    ----------
    name
        Of the explainer.
    given
        Parameters of all variants.
    center
        Position for explainers that ask for one, in pixels of the image.
    """
    factory = registry().find("explainer", name).load()
    if not is_dataclass(factory):
        return [dict(given)]
    types = get_type_hints(factory)
    own = {one.name for one in fields(factory) if one.init}
    place = {"query": center} if "query" in own else {}
    base = {**given} if _builds(name, given) else {**given, **place}
    options = {key: _values(name, key, types[key], base) for key in own - set(given)}
    options = {key: options[key] for key in sorted(options) if options[key]}
    chosen = product(*options.values())
    found = [base, *({**base, **dict(zip(options, values, strict=True))} for values in chosen)]
    extra: list[Parameters] = [place, {"layer": "input"} if "layer" in own else {}]
    for one in fields(factory):
        if one.name in own - set(given):
            extra += [{one.name: value} for value in _numbers(types[one.name], one.default)]
    return found + [{**base, **one} for one in extra if one]


def check_explainer(
    model: VisionModel,
    inputs: torch.Tensor,
    name: str,
    parameters: Parameters,
    targets: Sequence[Target],
    label: Any,
) -> list[Explanation]:
    """Return the maps of an explainer for one image, and check them.

    Each is finite and not flat, in a unit of the task's, or says why it is zero; or it is refused
    with a way out.
    """
    try:
        explainer = get_explainer(name, **parameters)
        maps = explain(model, inputs, explainer, [list(targets)], label=label)
    except CvxError as error:
        if len(targets) > 1:  # one target may be refused alone
            alone = ([one] for one in targets)
            found = [check_explainer(model, inputs, name, parameters, t, label) for t in alone]
            return [one for several in found for one in several]
        said = f"{name} {parameters} was refused without a way out: {error}"
        # A refused option's message says what it must be.
        named = isinstance(error, OptionError) and " must be " in str(error)
        assert error.hint or named, said  # noqa: PT017
        assert "not finite" not in str(error), said  # noqa: PT017
        return []
    for one in maps:
        said = f"{name} {parameters}: {one.target.text}"
        assert np.isfinite(one.values).all(), said
        if one.values.any():
            assert one.values.size == 1 or np.ptp(one.values) > 1e-6 * np.abs(one.values).max(), (
                said
            )
        else:
            zero_seed = one.evidence["class_specific"] and one.target.note
            assert one.evidence.get("warning") or zero_seed, said
        assert one.unit, said
        assert model.task.unit == Method.unit or Method.unit not in one.unit, f"{said} {one.unit}"
    return maps


def _numbers(form: Any, default: Any) -> list[Any]:
    """Return numbers other than the default: half of it and twice, or small ones where it is 0."""
    kinds = {form, *get_args(form)}
    if bool in kinds or not kinds & {int, float}:
        return []
    if not default:
        return [1, 4] if int in kinds else [0.125]
    return [default // 2 if int in kinds else default / 2, default * 2]


def _builds(name: str, parameters: Mapping[str, Any]) -> bool:
    try:
        get_explainer(name, **parameters)
    except OptionError:
        return False
    return True


def _values(name: str, key: str, form: Any, base: Parameters) -> list[Any]:
    """Return the values of a switch, or the choices that a refusal of another value names."""
    if bool in (form, *get_args(form)):
        return [False, True]
    try:
        get_explainer(name, **{**base, key: "?"})
    except OptionError as error:
        said = re.search(r"must be one of (.+?)(?: or [^,]*)?, got", str(error))
        return said[1].split(", ") if said else []
    return []
