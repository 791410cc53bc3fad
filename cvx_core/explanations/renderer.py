"""Contract of renderers, which turn explanations into bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from cvx_core.errors import UsageError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.results import Artifact


class Renderer(ABC):
    """Turns explanations into the bytes of a file.

    A renderer reads explanations and changes nothing; it never writes files (whoever calls it
    does, atomically) and gives the same bytes for the same explanations. Rectifying, normalising
    and colouring happen here, and a renderer states in its image whatever it does to the numbers.
    Write it as a frozen dataclass whose fields are its parameters.

    Attributes
    ----------
    joins
        True: one artifact for a whole run (a page, a table); False: one for each explanation.
    """

    joins: ClassVar[bool] = False

    # Properties, so that a parameter can decide; most renderers put a class variable here.
    @property
    def suffix(self) -> str:
        """File name extension of the artifact with its dot, as in ``".png"``."""
        return ""

    @property
    def media_type(self) -> str:
        """Of the artifact, as in ``"image/png"``."""
        return "application/octet-stream"

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        """Return the suffixes of the files that it can write, with its parameters as they are."""
        suffix = cls().suffix
        return (suffix,) if suffix else ()

    @classmethod
    def for_suffix(cls, suffix: str) -> Renderer | None:
        """Return the renderer that writes files with a suffix such as ``".png"``; None if none."""
        return cls() if suffix in cls.suffixes() else None

    def render(self, explanations: Explanation | Sequence[Explanation]) -> Artifact:
        """Return the artifact for one or more explanations.

        Raises
        ------
        UsageError
            If there are none.
        """
        if isinstance(explanations, Explanation):
            explanations = [explanations]
        elif not isinstance(explanations, Sequence):
            explanations = list(explanations)
        if not len(explanations):
            raise UsageError("There is no explanation to render.")
        return self.draw(explanations)

    @abstractmethod
    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the artifact for one or more explanations.

        Those of a long run are read from disk one by one: go through them once and keep no image,
        and a run of any length fits into memory.
        """
