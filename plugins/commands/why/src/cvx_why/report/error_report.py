"""Report on one mistake: its text and its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cvx_core import get_renderer
from cvx_core.explanations import Folder, encode_json, rendered
from cvx_why.report.data import FILES, ReportData
from cvx_why.report.page import page
from cvx_why.report.summary import summarize


@dataclass(frozen=True, eq=False)
class ErrorReport(ReportData):
    """Why a prediction is wrong, and what was tested, as data, text and files.

    The attributes are those of `ReportData`.
    """

    @property
    def text(self) -> str:
        """The report in a few lines."""
        return summarize(self)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the report into a folder: ``index.html``, the maps, and ``why.json``.

        Raises
        ------
        UsageError
            If one of the files exists and `overwrite` is false.
        UnknownComponentError
            If no renderer html or figure is installed.
        OutputError
            If a file can't be written; then no file of this call is left.
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
            # The page comes last, so that it only exists beside the files it links to.
            for name, data in reversed([*zip(FILES, written, strict=True)]):
                into.write(name, data)
        except BaseException:
            # A partial report would block the next call.
            if not overwrite:
                into.take_back()
            raise
        return [into.path / name for name in FILES]

    def __repr__(self) -> str:
        return f"<ErrorReport {self.name}: {json.dumps(self.target)}, {len(self.blamed)} blamed>"
