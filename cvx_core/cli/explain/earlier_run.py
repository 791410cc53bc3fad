"""Earlier run in an output folder, which ``--resume`` continues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvx_core.cli.explain.run_file import SCHEMA
from cvx_core.cli.explain.worker import Finished
from cvx_core.cli.kit.signals import SOME_FAILED
from cvx_core.errors import UsageError
from cvx_core.explanations.output_folder import RUN, Folder, encode_json

_FREE = ("folder", "force", "resume")
"""Arguments that may differ, because no map depends on them."""


@dataclass(frozen=True)
class EarlierRun:
    """A run of the same arguments in a folder.

    Attributes
    ----------
    folder
        The folder.
    document
        Content of its ``run.json``.
    """

    folder: Folder
    document: dict[str, Any]

    @classmethod
    def find(cls, folder: Folder, arguments: Mapping[str, Any]) -> EarlierRun | None:
        """Return the run in a folder; None if there is none.

        Raises
        ------
        UsageError
            If it had other arguments, or can't be read.
        """
        path = folder.place / RUN
        if not os.path.lexists(path):
            return None
        try:
            document = json.loads(path.read_bytes())
            readable = document["schema"] == SCHEMA and isinstance(document["arguments"], dict)
        except (OSError, ValueError, TypeError, KeyError):
            readable = False
        if not readable:
            raise UsageError(
                f"{folder.path / RUN} is not the file of a run that can be resumed.",
                "Choose another folder with -o, or overwrite existing files with --force.",
            )
        run = cls(folder, document)
        now = json.loads(encode_json(arguments))
        for name in sorted({*now, *document["arguments"]} - {*_FREE}):
            run._check(name, document["arguments"].get(name), now.get(name))
        return run

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return bool(self.document["status"] == "finished")

    def finished(self, joined: Sequence[str]) -> Finished:
        """Return the result of a finished run; `joined` are the names of its pages."""
        document = self.document
        failures = [*document["failures"], *(f for i in document["images"] for f in i["failures"])]
        pages = [name for name in document["files"] if name in joined]
        main = pages or [name for name in document["files"] if name != RUN]
        files = tuple(self.folder.path / name for name in main)
        return Finished(document, SOME_FAILED if failures else 0, self.folder.path, files)

    def prepare(self) -> None:
        """Let the run's own files be replaced, and remove temporary ones that it left."""
        self.folder.force = True
        for where, _, names in os.walk(self.folder.place):
            for name in names:
                if name.startswith(".cvx-") and name.endswith(".tmp"):
                    with suppress(OSError):
                        (Path(where) / name).unlink()

    def check_same(self, document: Mapping[str, Any]) -> None:
        """Refuse to mix the maps of two models or versions.

        Raises
        ------
        UsageError
            If the model's weights or the versions are not those of the earlier run.
        """
        before, now = self.document["model"], document["model"]
        if before:
            for name in ("name", "weights_sha256", "device", "dtype"):
                self._check(f"the {name} of the model", before.get(name), now[name])
        self._check("versions", self.document["versions"], document["versions"])

    def _check(self, what: str, before: Any, now: Any) -> None:
        if before != now:
            raise UsageError(
                f"The run in {self.folder.path} can't be resumed, because {what} differs: "
                f"{before!r} then, {now!r} now.",
                "Give the same arguments, or start over with --force.",
            )
