"""Renderers by the suffix of the files that they write."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from cvx_core.errors import CvxError, OutputError
from cvx_core.plugins.defaults import RENDERERS
from cvx_core.plugins.discovery import registry


def renderer_for(suffix: str, also: Iterable[str] = ()) -> Any:
    """Return the installed renderer that writes files with a suffix, the default ones first.

    Parameters
    ----------
    suffix
        As in ``".png"``.
    also
        Suffixes that the caller writes without a renderer, for the message.

    Raises
    ------
    OutputError
        If there is none.
    """
    offers = registry().offers("renderer")
    first = {name: k for k, name in enumerate(RENDERERS)}
    known = set(also)
    for offer in sorted(offers, key=lambda one: first.get(one.component.name, len(first))):
        # One that can't be imported must not keep others from writing.
        with suppress(CvxError):
            kind = offer.component.load()
            if (found := kind.for_suffix(suffix.lower())) is not None:
                return found
            known.update(kind.suffixes())
    raise OutputError(
        f"No installed renderer writes {suffix} files.",
        f"Suffixes: {', '.join(sorted(known))}. overlay().save(path) writes the overlay alone, in "
        "any format of Pillow.",
    )
