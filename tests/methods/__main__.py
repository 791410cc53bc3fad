"""Write docs/reference/methods.md: every installed explainer, from its summary and defaults.

The passes of a map are counted on a small convolutional network, or on a small transformer for
methods that don't support that; the verdict is that of docs/explanation/sanity.md. Takes seconds.
"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import cvx_core as cvx
from cvx_core.plugins.discovery import registry
from cvx_core.tasks.prediction import question_word
from cvx_core.testing import models

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "methods.md"
SANITY = ROOT / "docs" / "explanation" / "sanity.md"
BEGIN, END = "<!-- table: python tests/methods -->\n", "<!-- end of the table -->"
PLACE = (4, 4)
"""Position for methods that require one."""


def main() -> int:
    """Write the table."""
    warnings.simplefilter("ignore")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
    return 0


def table() -> str:
    """Return a row for each explainer."""
    lines = [
        "| method | summary | paper | default target | layer | forward | backward | sanity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    verdicts = sanity_verdicts()
    for offer in registry().offers("explainer"):
        name, summary = offer.component.name, offer.component.summary
        try:
            explainer = cvx.get_explainer(name)
        except cvx.OptionError:
            explainer = cvx.get_explainer(name, query=PLACE)
        paper = re.search(r"\(([A-Z][^()]* \d{4})\)", summary)
        what = summary if paper is None else summary.replace(paper[0], "").strip()
        cells = (
            f"`{name}`",
            what.replace("|", "\\|"),
            "" if paper is None else paper[1],
            question_word(explainer.default_target) if explainer.class_specific else "none",
            str(explainer.parameters().get("layer", "")),
            *cost(explainer),
            verdicts.get(name, ""),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cost(explainer: Any) -> tuple[str, str]:
    """Return how many passes forward and backward a map of one image takes."""
    failure: cvx.CvxError | None = None
    image = models.inputs(1)
    for network in (models.convolutional(), models.tokens()):
        # With a preprocess, for methods that ask what black and white become.
        model = cvx.VisionModel(network.module, preprocess=cvx.Preprocess(image.shape[-1]))
        try:
            [one] = explainer.explain(model, image, label=1)
        except cvx.CvxError as error:
            failure = error
        else:
            again = one.evidence.get("reruns")
            forward = str(one.evidence["forwards"])
            forward += f", {again} runs after the layer" if again else ""
            return forward, str(one.evidence["backwards"])
    assert failure is not None
    raise failure


def sanity_verdicts() -> dict[str, str]:
    """Return the last column of the table of verdicts, by method."""
    rows = re.findall(
        r"^\| `([\w-]+)`(?: \*)? \|.*\| ([^|]*) \|$", SANITY.read_text(), re.MULTILINE
    )
    return {name: re.sub(r" \d+", "", said) for name, said in rows}


if __name__ == "__main__":
    sys.exit(main())
