"""A run of ``cvx explain`` from the first image to the last."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvx_core.cli.explain.attempts import Attempt, AttemptRunner
from cvx_core.cli.explain.finished_images import FinishedImages
from cvx_core.cli.explain.images import ImageReader
from cvx_core.cli.explain.plan import NamedExplainer
from cvx_core.cli.explain.run_file import Entry, Journal, Mishap
from cvx_core.cli.kit.progress import Reporter
from cvx_core.cli.kit.signals import SOME_FAILED, interruption_code
from cvx_core.errors import CvxError, OutputError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.output_folder import RUN, Drawing, Folder, encode_json, rendered
from cvx_core.images.image_files import SourceImage
from cvx_core.models.vision_model import VisionModel

TOGETHER = 16
"""Images explained at once on an accelerator; on a CPU one at a time is as fast."""


@dataclass(frozen=True)
class Finished:
    """How a run went.

    Attributes
    ----------
    document
        What ``run.json`` holds.
    exit_code
        0 fine, 3 no readable image, 4 some images failed, 130 interrupted; where everything
        failed for one reason, that reason's.
    folder
        Where the files are.
    main_files
        The files to open first: the pages of the whole run, or else every file.
    """

    document: dict[str, Any]
    exit_code: int
    folder: Path
    main_files: tuple[Path, ...]


class Work:
    """Explains, draws and writes, image by image.

    Parameters
    ----------
    model, explainers, drawing, folder
        What explains, how the maps are drawn, and where they are written.
    journal, reporter
        What the run leaves in ``run.json``, and what receives its progress.
    seed
        Random seed.
    sanity
        Whether to check the maps.
    resume
        Whether to take over the images that an earlier run in the folder finished.
    """

    def __init__(
        self,
        model: VisionModel,
        explainers: Sequence[NamedExplainer],
        drawing: Drawing,
        folder: Folder,
        journal: Journal,
        reporter: Reporter,
        seed: int,
        *,
        sanity: bool = False,
        resume: bool = False,
    ) -> None:
        self._resume = resume
        self._drawing, self._folder, self._task = drawing, folder, model.task
        self._journal, self._reporter = journal, reporter
        self._attempts = AttemptRunner(model, explainers, seed, sanity=sanity)
        self._together = 1 if model.device.type == "cpu" else TOGETHER
        self._finished = FinishedImages(folder, model, keep=bool(drawing.joined))
        self._told: set[str] = set()

    def finish(self, images: ImageReader) -> Finished:
        """Run to the end, or to Ctrl-C, and write the journal whatever happens."""
        journal = self._journal
        # A second run into this folder is refused from here on.
        self._save(again=False)
        code = 0
        try:
            left = images.left()
            said = "1 image" if left == 1 else f"{left} images"
            self._reporter.stage(f"explaining {said}", total=left)
            for batch in images.batches(self._together):
                self._explain(batch)
                if self._attempts.exhausted:
                    break
            self._join()
            images.settle()
            code = journal.exit_code()
            journal.status = "finished" if code in (0, SOME_FAILED) else "failed"
        except KeyboardInterrupt as error:
            journal.status, code = "interrupted", interruption_code(error)
            self._reporter.note(
                f"Interrupted. Finished images are in {self._folder.path}; explain the others "
                "with --resume."
            )
        except BaseException:
            journal.status = "failed"
            with suppress(OutputError):  # what came first is to be told
                self._save(again=True)
            raise
        document = self._save(again=True)
        if journal.status == "finished":
            self._finished.remove()
        pages = [name for name in self._folder.written if name in self._drawing.joined]
        main = pages or [name for name in self._folder.written if name != RUN]
        files = tuple(self._folder.path / name for name in main)
        return Finished(document, code, self._folder.path, files)

    def _save(self, *, again: bool) -> dict[str, Any]:
        document = self._journal.document(self._folder.written)
        try:
            self._folder.write(RUN, encode_json(document), again=again)
        except OutputError:
            # The disk may be full. That the run goes on must not stand there all the same.
            if again:
                self._folder.mark(RUN, b'"status": "running"', b'"status": "failed" ')
            raise
        return document

    def _explain(self, batch: Sequence[tuple[Entry, SourceImage]]) -> None:
        entries, jobs = [], []
        for entry, image in batch:
            assert entry.plan is not None
            entries.append(entry)
            jobs.append((entry.plan, image))
        # Whole batches only: what is run together decides the last bits of the values.
        if self._resume:
            before = [found for entry in entries if (found := self._finished.find(entry))]
            if len(before) == len(entries):
                for entry, found in zip(entries, before, strict=True):
                    self._finished.restore(entry, found)
                self._reporter.advance(len(batch))
                return
        try:
            attempts = self._attempts.attempt(jobs)
        except KeyboardInterrupt:
            self._reporter.note(
                "Interrupted: drawing finished maps. Interrupt again to stop immediately."
            )
            self._take(entries, self._attempts.unfinished(jobs), whole=False)
            raise
        self._take(entries, attempts, whole=True)
        self._reporter.advance(len(batch))

    def _take(self, entries: Sequence[Entry], attempts: Sequence[Attempt], *, whole: bool) -> None:
        for entry, attempt in zip(entries, attempts, strict=True):
            if not whole and not attempt.maps:
                continue
            for explainer, failure in attempt.failures:
                entry.mishaps.append(Mishap("explainer", explainer.title, failure))
                self._tell(failure, f"{entry.request.path.name}, {explainer.title}")
            for wanted, explanation in attempt.maps:
                self._draw(entry, wanted.name, explanation)
                sanity = explanation.evidence.get("sanity")
                if sanity is not None and sanity["verdict"] != "passes":
                    about = f"{entry.request.path.name}, {wanted.explainer.title}"
                    said = f"Sanity check: {sanity['verdict']}. {sanity['reason']}"
                    self._reporter.note(f"{about}: {said}")
            entry.close(attempt.seconds, whole=whole)
            self._finished.add(entry, [one for _, one in attempt.maps])
            if attempt.maps:
                first = attempt.maps[0][1]
                said = self._task.summary(first.target)
                total = len(self._journal.entries)
                number = f"[{self._journal.entries.index(entry) + 1}/{total}] " if total > 1 else ""
                self._reporter.note(f"{number}{entry.request.path.name}: {said}")

    def _draw(self, entry: Entry, name: str, explanation: Explanation) -> None:
        files = []
        for renderer in self._drawing.each:
            try:
                file, data = self._drawing.draw(renderer, name, explanation)
            except CvxError as error:
                entry.mishaps.append(Mishap("renderer", renderer, error))
                self._tell(error, entry.request.path.name)
                continue
            path = f"{entry.folder}/{file}"
            self._folder.write(path, data)
            files.append(path)
        entry.add(explanation, files)

    def _join(self) -> None:
        for name, renderer in self._drawing.joined.items():
            if not self._finished:
                return
            self._reporter.stage(f"writing {name}")
            try:
                data = rendered(renderer, self._finished).data
            except CvxError as error:
                self._journal.mishaps.append(Mishap("renderer", name, error))
                self._tell(error, name)
            else:
                self._folder.write(name, data)

    def _tell(self, error: CvxError, about: str = "") -> None:
        # What fails on every image for one reason is said once, and stands in run.json each time.
        if str(error) not in self._told:
            self._told.add(str(error))
            self._reporter.trouble(error, about)
