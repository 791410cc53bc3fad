"""Two photographs on which a classifier has something to explain."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "photos"


class Photograph(NamedTuple):
    """A photograph of the demonstration.

    Attributes
    ----------
    path
        The file.
    label
        The true class if the embedded network misses it, else None.
    caption
        What the photograph shows and what the embedded network says.
    """

    path: Path
    label: str | None
    caption: str


def photographs() -> list[Photograph]:
    """Return the photographs: one with two classes in it, and one that the network gets wrong."""
    return [
        Photograph(
            _FOLDER / "fish9.jpg",
            None,
            "An anemone fish among the tentacles of a sea anemone: two classes in one image.",
        ),
        Photograph(
            _FOLDER / "screwDriver3.jpg",
            "screwdriver",
            'Two torque screwdrivers, one with a pistol grip, predicted as "power drill".',
        ),
    ]
