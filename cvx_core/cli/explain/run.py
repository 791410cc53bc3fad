"""Runs of ``cvx explain``, for programs and other commands too: images in, a folder out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cvx_core.api import get_renderer
from cvx_core.cli.explain.earlier_run import EarlierRun
from cvx_core.cli.explain.images import ImageReader
from cvx_core.cli.explain.plan import (
    ImageRequest,
    MapPlan,
    NamedExplainer,
    build_explainers,
    check_labels,
    count_classes,
    read_label,
)
from cvx_core.cli.explain.run_file import Entry, Journal, model_facts
from cvx_core.cli.explain.worker import Finished, Work
from cvx_core.cli.kit.model_loader import loaded_model
from cvx_core.cli.kit.progress import Reporter
from cvx_core.errors import UsageError
from cvx_core.explanations.output_folder import RUN, Drawing, Folder, safe_stem
from cvx_core.explanations.renderer import Renderer
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.defaults import EXPLAINERS, MODEL, RENDERERS
from cvx_core.plugins.parameters import parse_parameters


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run.

    Parameters
    ----------
    model, weights, trust_checkpoint, device
        See `cvx_core.load_model`; or a model that is loaded already.
    explainers
        As on the command line, ``"name:key=value"``. None takes the four methods, without those
        that need a label for images that have none.
    renderers
        As on the command line.
    dtype
        Name of a `torch.dtype`, as in ``"bfloat16"``.
    seed
        Random seed of the methods.
    sanity
        Whether to check that the maps depend on what the network has learned.
    force
        Overwrite existing files.
    resume
        Continue an unfinished run in the folder, if there is one.
    """

    model: str | VisionModel = MODEL
    explainers: Sequence[str] | None = None
    renderers: Sequence[str] = RENDERERS
    weights: str | Path | None = None
    trust_checkpoint: bool = False
    device: str | None = None
    dtype: str | None = None
    seed: int = 0
    sanity: bool = False
    force: bool = False
    resume: bool = False

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self.model if isinstance(self.model, str) else self.model.name

    def load_model(self) -> VisionModel:
        """Load the model, or move the one that is loaded."""
        import torch

        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        if isinstance(self.model, VisionModel):
            return self.model.to(self.device, dtype) if self.device or dtype else self.model
        return loaded_model(self.model, self.weights, self.device, self.trust_checkpoint, dtype)


def explain_to_folder(
    requests: Sequence[ImageRequest | str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
) -> Finished:
    """Explain images and write maps, pages and ``run.json`` into a folder.

    An image that can't be read or explained costs that image alone, and is told to `reporter`
    and ``run.json``. Ctrl-C ends the run in order, with what was finished kept.

    Parameters
    ----------
    requests
        Paths of images, or a `ImageRequest` each with its own label and targets.
    folder
        Created if missing.
    options
        How to explain and draw; None takes the defaults.
    reporter
        Receives progress and problems; None keeps silent.

    Returns
    -------
    Finished

    Raises
    ------
    UsageError
        If a name, a label or a target can't be resolved, a file is there already, or the run to
        resume had other arguments; before anything is written.
    InputError
        If no image can be read.
    ModelError, PluginError
        If the model or a plugin can't be loaded.
    OutputError
        If the disk refuses.
    """
    given = [s if isinstance(s, ImageRequest) else ImageRequest(Path(s)) for s in requests]
    if not given:
        raise UsageError("Got no images to explain.")
    options = options or RunOptions()
    reporter = reporter or Reporter()
    reporter.stage("reading the request")
    explainers = build_explainers(EXPLAINERS if options.explainers is None else options.explainers)
    if options.explainers is not None:
        check_labels(given, explainers)
    drawing = Drawing(build_renderers(options.renderers))
    output = Folder(Path(folder), force=options.force)
    arguments = _arguments(given, folder, explainers, options)
    earlier = EarlierRun.find(output, arguments) if options.resume else None
    if earlier is not None:
        if earlier.is_finished:
            return earlier.finished([*drawing.joined])
        earlier.prepare()
    output.check([RUN, *drawing.joined])
    journal = Journal(arguments, _used(explainers, options))
    images = ImageReader([journal.enter(request) for request in given], reporter)
    first = images.first()
    reporter.stage("loading the model")
    model = options.load_model()
    journal.model = model_facts(model)
    if earlier is not None:
        earlier.check_same(journal.document([]))
    if note := model.details.get("weights_note"):
        reporter.note(note)
    if model.details.get("weights") == "random":
        reporter.note(f"{model.name} has random weights: it has learned nothing.")
    count = count_classes(model, given, first)
    _plan(journal.entries, explainers, model, count, reporter, optional=options.explainers is None)
    output.check(_existing(drawing, output, journal.entries))
    work = Work(
        model,
        explainers,
        drawing,
        output,
        journal,
        reporter,
        options.seed,
        sanity=options.sanity,
        resume=earlier is not None,
    )
    return work.finish(images)


def build_renderers(texts: Sequence[str]) -> dict[str, Renderer]:
    """Build renderers from ``name:key=value,...``, by that text.

    Raises
    ------
    UnknownComponentError, ConflictError, OptionError
        See `cvx_core.get_renderer`.
    """
    found = {}
    for text in texts:
        name, parameters = parse_parameters(text)
        found[text] = get_renderer(name, **parameters)
    return found


def _arguments(
    requests: Sequence[ImageRequest],
    folder: str | os.PathLike[str],
    explainers: Sequence[NamedExplainer],
    options: RunOptions,
) -> dict[str, Any]:
    """Return the arguments of the run as JSON values."""
    return {
        "images": [one.shown for one in requests],
        "labels": [one.label for one in requests],
        "targets": [[repr(target) for target in one.targets] for one in requests],
        "folder": str(folder),
        **{one.name: getattr(options, one.name) for one in fields(options)},
        "model": options.model_name,
        "explainers": [one.text for one in explainers],
        "renderers": list(options.renderers),
        "weights": None if options.weights is None else str(options.weights),
    }


def _used(explainers: Sequence[NamedExplainer], options: RunOptions) -> list[tuple[str, str]]:
    return [
        *(("explainer", name) for one in explainers for name in one.components),
        *(("renderer", parse_parameters(text)[0]) for text in options.renderers),
        ("model source", options.model_name.partition(":")[0]),
    ]


def _existing(drawing: Drawing, folder: Folder, entries: Sequence[Entry]) -> Iterator[str]:
    """Return the files that may be in the way: those of images of the same name, as yet unread."""
    known: dict[str, list[str]] = {}
    for name in folder.subfolders():
        known.setdefault(name.rpartition("-")[0].casefold(), []).append(name)
    for entry in entries:
        for name in known.get(safe_stem(entry.request.path.name).casefold(), ()):
            for wanted in entry.plan.maps if entry.plan else ():
                yield from (f"{name}/{file}" for file in drawing.files(wanted.name))


def _plan(
    entries: Sequence[Entry],
    explainers: Sequence[NamedExplainer],
    model: VisionModel,
    count: int | None,
    reporter: Reporter,
    *,
    optional: bool,
) -> None:
    """Give every entry its plan, and say once what is left out of it."""
    left_out: dict[str, None] = {}
    once: dict[str, None] = {}
    for entry in entries:
        truth = read_label(entry.request, model, count or 2)
        if optional:
            able = [
                one for one in explainers if truth is not None or not one.needs_label(entry.request)
            ]
            left_out.update(dict.fromkeys(one.title for one in explainers if one not in able))
        else:
            able = list(explainers)
        entry.plan = MapPlan(entry.request, able, model.classes, count, truth)
        if len(entry.plan.targets) > 1:
            once.update({one.title: None for one in able if not one.explainer.class_specific})
    if left_out:
        reporter.note(
            f"Skipped {_and(left_out)}: ground truth required. "
            f"Pass --label {model.task.label_form}."
        )
    if once:
        verb, be = ("does", "is") if len(once) == 1 else ("do", "are")
        reporter.note(f"{_and(once)} {verb} not depend on the target and {be} drawn once.")
    if not any(entry.plan and entry.plan.maps for entry in entries):
        raise UsageError("Nothing to explain.", "Pass --label, --target or --explainer.")


def _and(words: dict[str, None]) -> str:
    return " and ".join([", ".join([*words][:-1]), [*words][-1]] if len(words) > 1 else words)
