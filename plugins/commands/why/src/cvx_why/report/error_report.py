"""Report on one error: its text, and its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cvx_core import get_renderer
from cvx_core.explanations import Folder, encode_json, rendered
from cvx_why.report.data import FILES, ReportData
from cvx_why.report.page import page
from cvx_why.report.summary import describe_error


@dataclass(frozen=True, eq=False)
class ErrorReport(ReportData):
    """Why an answer is wrong, with what was tested.

    Attributes
    ----------
    name, model
        Of the image and the network.
    type
        What kind of error it is; ``"right"`` where there is none, and then nothing is blamed.
    question
        What was asked, as in ``why power drill rather than screwdriver?``.
    predicted, true
        What was answered and what is there; None where there is no such thing.
    loss, margin
        Cross-entropy in nats, and by how much the answer is wrong, in logits.
    regions
        Those that were looked into, the most helpful first; none where no removal stands out.
    usual
        By how much the margin changes, in the middle, without regions of the same shape elsewhere
        (without squares elsewhere, where nothing came into question), in logits: the yardstick.
    fix
        The smallest region found without which the answer is right, or None.
    contrast
        The mean of the margin maps, logits per pixel: predicted against true.
    blame
        The map of blame, logits per pixel, 0 or more, from the removals. Its sum over a blamed
        region is what the margin fell without it; it is zero if no region is blamed.
    passes, backwards, budget
        Images that went through the network, how many of them backwards too, and how many
        might have.
    additions
        What had to be taken from the reference image to make the answer right, if one was given.
    profile
        The layer profile, by layer, if it was asked for.
    """

    @property
    def text(self) -> str:
        """The report in a few lines."""
        return describe_error(self)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the report into a folder: ``index.html``, the maps, and ``why.json``.

        Raises
        ------
        UsageError
            If one of them is there and `overwrite` is false.
        UnknownComponentError
            If no renderer html or figure is installed.
        OutputError
            If the disk refuses; then no file is left that this call made.
        """
        into = Folder(Path(folder), force=overwrite)
        figure, maps = get_renderer("figure"), get_renderer("html", title="Why is it wrong?")
        into.check(FILES)
        written = (
            page(self).encode(),
            rendered(maps, self.explanations).data,
            rendered(figure, [self.blame]).data,
            rendered(figure, [self.contrast]).data,
            encode_json(self.to_dict()),
        )
        try:
            # The page comes last, and so is there only beside all that it shows.
            for name, data in reversed([*zip(FILES, written, strict=True)]):
                into.write(name, data)
        except BaseException:
            # What is left would keep the next call from writing.
            if not overwrite:
                into.take_back()
            raise
        return [into.path / name for name in FILES]

    def __repr__(self) -> str:
        return f"<ErrorReport {self.name}: {json.dumps(self.request)}, {len(self.blamed)} blamed>"
