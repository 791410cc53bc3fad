"""The work of ``cvx render``: explanations in, a folder of figures and pages out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from cvx_core.errors import CvxError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.output_folder import Drawing, Folder, ImageFolders, Names, rendered, slug


def redraw(
    explanations: Sequence[Explanation], drawing: Drawing, target: Folder
) -> tuple[list[Path], list[CvxError]]:
    """Draw explanations into a folder, under the names that ``cvx explain`` gives.

    Parameters
    ----------
    explanations
        At least one.
    drawing
        How.
    target
        Where to.

    Returns
    -------
    files, problems
        The files to open first, and what a renderer could not draw.

    Raises
    ------
    UsageError
        If a file is there already; before anything is written.
    OutputError
        If the disk refuses.
    """
    folders = ImageFolders()
    taken: dict[str, Names] = {}
    places = []
    for explanation in explanations:
        place = folders.name(explanation.name, _digest(explanation))
        wanted = slug(explanation.method) or "map"
        if explanation.evidence.get("class_specific") is not False:
            wanted += f".{explanation.target.slug}"
        places.append(f"{place}/{taken.setdefault(place, Names()).fresh(wanted)}")
    target.check([*drawing.joined, *(file for place in places for file in drawing.files(place))])
    problems: list[CvxError] = []
    for place, explanation in zip(places, explanations, strict=True):
        for key in drawing.each:
            try:
                file, data = drawing.draw(key, place, explanation)
            except CvxError as error:
                problems.append(error)
            else:
                target.write(file, data)
    for file, renderer in drawing.joined.items():
        try:
            data = rendered(renderer, list(explanations)).data
        except CvxError as error:
            problems.append(error)
        else:
            target.write(file, data)
    pages = [name for name in target.written if name in drawing.joined]
    return [target.path / name for name in pages or target.written], problems


def _digest(explanation: Explanation) -> str:
    # An archive may come from anybody, and the digest becomes part of a folder's name.
    known = str(explanation.provenance.get("image_sha256", ""))
    if re.fullmatch(r"[0-9a-f]{64}", known):
        return known
    return hashlib.sha256(explanation.image.tobytes()).hexdigest()
