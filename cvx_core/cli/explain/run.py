"""Runs of ``cvx explain``, for programs and other commands too: images in, a folder out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cvx_core.api import get_renderer
from cvx_core.cli.explain.images import ImageReader
from cvx_core.cli.explain.plan import (
    Asked,
    Plan,
    Subject,
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


def explain_to_folder(
    subjects: Sequence[Subject | str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    model: str | VisionModel = MODEL,
    explainers: Sequence[str] | None = None,
    renderers: Sequence[str] = RENDERERS,
    weights: str | Path | None = None,
    trust_checkpoint: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    seed: int = 0,
    sanity: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Finished:
    """Explain images and write pictures, pages and ``run.json`` into a folder.

    An image that can't be read or explained costs that image alone, and is told to `reporter`
    and ``run.json``. Ctrl-C ends the run in order, with what was finished kept.

    Parameters
    ----------
    subjects
        Paths of images, or a `Subject` each with its own label and targets.
    folder
        Made if it isn't there.
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
        Of all randomness in the methods.
    sanity
        Whether to check that the maps depend on what the network has learned; see
        `cvx_score.checks.randomization`.
    force
        Replace files that are there.
    reporter
        Hears about progress and problems; None keeps silent.

    Returns
    -------
    Finished

    Raises
    ------
    UsageError
        If a name, a label or a target can't be resolved, or a file is there already; before
        anything is written.
    InputError
        If no image can be read.
    ModelError, PluginError
        If the model or a plugin can't be loaded.
    OutputError
        If the disk refuses.
    """
    given = [s if isinstance(s, Subject) else Subject(Path(s)) for s in subjects]
    if not given:
        raise UsageError("There are no images to explain.")
    reporter = reporter or Reporter()
    reporter.stage("looking at what was asked")
    asked = build_explainers(EXPLAINERS if explainers is None else explainers)
    if explainers is not None:
        check_labels(given, asked)
    drawing = Drawing(build_renderers(renderers))
    target_folder = Folder(Path(folder), force=force)
    target_folder.check([RUN, *drawing.joined])
    asked_of = model if isinstance(model, str) else model.name
    arguments = {
        "images": [str(one.path) for one in given],
        "labels": [one.label for one in given],
        "targets": [[repr(target) for target in one.targets] for one in given],
        "model": asked_of,
        "explainers": [one.text for one in asked],
        "renderers": list(renderers),
        "folder": str(folder),
        "weights": None if weights is None else str(weights),
        "trust_checkpoint": trust_checkpoint,
        "device": device,
        "dtype": dtype,
        "seed": seed,
        "sanity": sanity,
        "force": force,
    }
    journal = Journal(arguments, _used(asked, renderers, asked_of))
    images = ImageReader([journal.enter(subject) for subject in given], reporter)
    first = images.first()
    reporter.stage("loading the model")
    loaded = _load(model, weights, trust_checkpoint, device, dtype)
    journal.model = model_facts(loaded)
    if loaded.details.get("weights") == "random":
        reporter.note(f"{loaded.name} has random weights: it has learned nothing.")
    count = count_classes(loaded, given, first)
    _plan(journal.entries, asked, loaded, count, reporter, optional=explainers is None)
    target_folder.check(_existing(drawing, target_folder, journal.entries))
    work = Work(loaded, asked, drawing, target_folder, journal, reporter, seed, sanity=sanity)
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


def _used(asked: Sequence[Asked], renderers: Sequence[str], model: str) -> list[tuple[str, str]]:
    return [
        *(("explainer", parse_parameters(one.text)[0]) for one in asked),
        *(("renderer", parse_parameters(text)[0]) for text in renderers),
        ("model source", model.partition(":")[0]),
    ]


def _existing(drawing: Drawing, folder: Folder, entries: Sequence[Entry]) -> Iterator[str]:
    """Return the files that may be in the way: those of images of the same name, as yet unread."""
    known: dict[str, list[str]] = {}
    for name in folder.subfolders():
        known.setdefault(name.rpartition("-")[0].casefold(), []).append(name)
    for entry in entries:
        for name in known.get(safe_stem(entry.subject.path.name).casefold(), ()):
            for wanted in entry.plan.wanted if entry.plan else ():
                yield from (f"{name}/{file}" for file in drawing.files(wanted.name))


def _load(
    model: str | VisionModel,
    weights: str | Path | None,
    trust_checkpoint: bool,
    device: str | None,
    dtype: str | None,
) -> VisionModel:
    import torch

    kind = None if dtype is None else getattr(torch, dtype)
    if isinstance(model, VisionModel):
        return model.to(device, kind) if device or kind else model
    return loaded_model(model, weights, device, trust_checkpoint, kind)


def _plan(
    entries: Sequence[Entry],
    asked: Sequence[Asked],
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
        if optional:
            able = [one for one in asked if one.answers(entry.subject)]
            left_out.update(dict.fromkeys(one.title for one in asked if one not in able))
        else:
            able = list(asked)
        truth = read_label(entry.subject, model)
        entry.plan = Plan(entry.subject, able, model.classes, count, truth)
        if len(entry.plan.targets) > 1:
            once.update({one.title: None for one in able if not one.explainer.class_specific})
    if left_out:
        reporter.note(
            f"{_and(left_out)} {'requirements' if len(left_out) == 1 else 'need'} the truth and "
            f"{'was' if len(left_out) == 1 else 'were'} left out; name it with --label "
            f"{'CLASS' if model.task == 'classification' else 'FILE'}."
        )
    if once:
        reporter.note(f"{_and(once)}: the same map for every target, so drawn once.")
    if not any(entry.plan and entry.plan.wanted for entry in entries):
        raise UsageError("There is nothing to draw.", "Name a label, a target or an explainer.")


def _and(words: dict[str, None]) -> str:
    return " and ".join([", ".join([*words][:-1]), [*words][-1]] if len(words) > 1 else words)
