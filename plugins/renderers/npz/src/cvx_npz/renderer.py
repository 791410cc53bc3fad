"""NPZ renderer: explanations as one NumPy archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cvx_core.explanations import Artifact, Explanation, Renderer, to_npz


@dataclass(frozen=True)
class Npz(Renderer):
    """Maps, images and metadata without loss, for other programs.

    The archive contains no pickle: ``numpy.load(path, allow_pickle=False)`` opens it, and
    `cvx_core.load_explanations` returns equal explanations. The same explanations always
    give the same bytes.
    """

    suffix: ClassVar[str] = ".npz"
    media_type: ClassVar[str] = "application/x-npz"
    joins: ClassVar[bool] = True

    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the archive of all explanations; each image is stored once."""
        return Artifact(self.suffix, self.media_type, to_npz(explanations))
