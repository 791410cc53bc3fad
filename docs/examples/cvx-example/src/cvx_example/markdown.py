"""Renderer: a table of all maps of a run, for a pull request or a report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cvx_core import Artifact, Explanation, Renderer, printable


@dataclass(frozen=True)
class Markdown(Renderer):
    """One row for each map: image, method, target, score and the sum of the map."""

    suffix = ".md"
    media_type = "text/markdown"
    joins = True

    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the table."""
        rows = ["| image | method | target | score | sum of the map |", "|---|---|---|--:|--:|"]
        for one in explanations:
            additive = one.evidence.get("additive", True)
            total = f"{one.values.sum(dtype=float):.4g}" if additive else ""
            cells = [one.name, one.method, one.target.text, f"{one.target.score:.4g}", total]
            rows.append("| " + " | ".join(map(_escaped, cells)) + " |")
        return Artifact(self.suffix, self.media_type, ("\n".join(rows) + "\n").encode())


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_|<>\[\]&#])", r"\\\1", printable(text))
