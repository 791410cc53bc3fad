"""Conformance of the components that ``--cvx-component`` names, without a test file.

pytest --pyargs cvx_core.testing --cvx-component my-method
"""

from __future__ import annotations

from typing import Any

import pytest

from cvx_core.errors import CvxError
from cvx_core.plugins.discovery import get_component, registry
from cvx_core.testing import conformance

KITS: dict[str, type[Any]] = {
    "explainer": conformance.ExplainerConformance,
    "renderer": conformance.RendererConformance,
    "model source": conformance.ModelSourceConformance,
    "command": conformance.CommandConformance,
    "check": conformance.CheckConformance,
}
"""Kits that need nothing but the component's name."""


def kit_of(text: str) -> type[Any]:
    """Return a class of tests for a component.

    Parameters
    ----------
    text
        ``NAME`` or ``KIND:NAME``, as in ``"renderer:csv"``.

    Raises
    ------
    pytest.UsageError
        If no component, or several, have the name, or if its kind needs a class of its own.
    """
    kind, _, name = text.rpartition(":")
    bare = name.partition("@")[0]
    kinds = [k for k in registry().kinds if bare in registry().names(k) and k in (kind or k)]
    if len(kinds) != 1:
        found = "is of several kinds: " + ", ".join(kinds) if kinds else "is not installed"
        raise pytest.UsageError(
            f"The component {text!r} {found}. 'cvx plugins' lists what is installed; "
            "write KIND:NAME to name the kind."
        )
    if kinds[0] not in KITS:
        raise pytest.UsageError(
            f"The {kinds[0]} {name!r} can't be tested by its name alone: subclass its conformance "
            "class in a test file. 'cvx new-plugin' writes one."
        )
    members: dict[str, Any] = {"component": name}
    if kinds[0] == "model source":
        members["model"] = _first_model(name)
    words = f"{kinds[0]} {bare}".title()
    return type("Test" + "".join(filter(str.isalnum, words)), (KITS[kinds[0]],), members)


def _first_model(source: str) -> str:
    from cvx_core.models.sources import ModelSource

    try:
        models = get_component("model source", source, {}, ModelSource).models()  # type: ignore[type-abstract]
        return next(iter(models)).name
    except (CvxError, StopIteration) as error:
        raise pytest.UsageError(
            f"The model source {source!r} lists no models: subclass ModelSourceConformance, "
            "with the name of a model."
        ) from error
