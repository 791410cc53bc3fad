"""Lists of explanations, and artifacts of renderers, which show themselves in notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, overload

from cvx_core._util.files import write_atomic
from cvx_core._util.text import shortened
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.notebook import bundle_of, explanation_html
from cvx_core.explanations.npz import unpack

SHOWN = 24
"""Explanations that a notebook shows of a list."""


class Explanations(list[Explanation]):
    """A list of explanations. A notebook shows their overlays."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Explanations: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Explanation | Explanations:
        """Return one of them; several as a list of this kind."""
        found = super().__getitem__(index)
        return Explanations(found) if isinstance(found, list) else found

    def __add__(self, other: Iterable[Explanation]) -> Explanations:  # type: ignore[override]
        """Return a list of this kind with both."""
        return Explanations([*self, *other])

    def __repr__(self) -> str:
        if not self:
            return "<0 explanations>"
        count = "1 explanation" if len(self) == 1 else f"{len(self)} explanations"
        images = len({one.name for one in self})
        methods = ", ".join(dict.fromkeys(one.method for one in self))
        text = f"{count} of {images} image{'s'[: images > 1]}: {methods}"
        return f"<{shortened(text)}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<div style='max-width:320px'>{explanation_html(one, 300)}</div>"
            for one in self[:SHOWN]
        )
        more = f"<p>{len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<div style='display:flex;flex-wrap:wrap;gap:16px'>{cells}</div>{more}"


def load_explanations(path: str | Path) -> Explanations:
    """Read the explanations in an npz file that cvx wrote.

    Raises
    ------
    OutputError
        If the file is missing, damaged, too large when unpacked, or not such an archive.
    """
    return Explanations(unpack(path, Explanation.from_dict))


@dataclass(frozen=True, repr=False)
class Artifact:
    """Output of a renderer; the caller writes the file. A notebook shows images and pages.

    Attributes
    ----------
    suffix
        File name extension with its dot, as in ``".png"``.
    media_type
        As in ``"image/png"``.
    data
        The file's bytes.
    """

    suffix: str
    media_type: str
    data: bytes

    def __repr__(self) -> str:
        size = len(self.data)
        shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
        return f"<Artifact {self.suffix}, {shown}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        return {"text/plain": repr(self), **bundle_of(self.data, self.media_type)}

    def text(self) -> str:
        """Return the bytes as UTF-8 text."""
        return self.data.decode("utf-8")

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the bytes to a file, atomically; the suffix is added if the path has none.

        Raises
        ------
        OutputError
            If the file exists and `overwrite` is false, or can't be written.
        """
        path = Path(path)
        return write_atomic(
            path if path.suffix else path.with_suffix(self.suffix), self.data, overwrite=overwrite
        )
