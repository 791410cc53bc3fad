"""Journal of a run: the content of ``run.json``."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Literal

from cvx_core._util.version import __version__
from cvx_core.cli.explain.plan import ImageRequest, MapPlan
from cvx_core.cli.kit.signals import SOME_FAILED
from cvx_core.errors import CvxError
from cvx_core.explanations.explanation import Explanation
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import registry, version_of

SCHEMA = "cvx.run/2"

Status = Literal["pending", "explained", "partly", "failed", "unreadable", "duplicate"]


@dataclass(frozen=True)
class Mishap:
    """Something that failed while the run went on."""

    part: Literal["image", "explainer", "renderer"]
    name: str
    error: CvxError

    def to_dict(self) -> dict[str, Any]:
        """Return the mishap as JSON values."""
        return {
            "part": self.part,
            "name": self.name,
            "kind": type(self.error).__name__,
            "message": self.error.message,
            "hint": self.error.hint,
            "exit_code": self.error.exit_code,
        }


@dataclass(eq=False)
class Entry:
    """One image of a run.

    Attributes
    ----------
    request
        Its label and targets.
    digest
        SHA-256 of its content, hexadecimal; empty if it can't be read.
    folder
        Where its files go, relative to the run's folder.
    plan
        The maps that are wanted; None until it is known.
    status
        ``partly`` if some of the maps are missing.
    seconds
        Wall-clock time for its maps, without drawing them.
    prediction
        The model's prediction and the label, as JSON values; empty until it is known.
    explanations, mishaps
        What was drawn, and what failed.
    """

    request: ImageRequest
    digest: str = ""
    folder: str = ""
    plan: MapPlan | None = None
    status: Status = "pending"
    seconds: float = 0.0
    prediction: dict[str, Any] = field(default_factory=dict)
    explanations: list[dict[str, Any]] = field(default_factory=list)
    mishaps: list[Mishap] = field(default_factory=list)

    def unreadable(self, error: CvxError) -> None:
        """Note that the image can't be read."""
        self.status = "unreadable"
        self.mishaps.append(Mishap("image", self.request.path.name, error))

    def add(self, explanation: Explanation, files: Sequence[str]) -> None:
        """Note an explanation and the files it was drawn to."""
        target = explanation.target.to_dict()
        kept = ("predicted", "label", "truth", "correct", "top", "reported")
        self.prediction = {key: target[key] for key in kept}
        self.explanations.append(
            {
                "explainer": explanation.method,
                "target": {key: target[key] for key in ("kind", "text", "score", "note")},
                "layer": explanation.provenance.get("layer"),
                "seconds": explanation.evidence.get("seconds"),
                "sanity": (explanation.evidence.get("sanity") or {}).get("verdict"),
                "files": list(files),
            }
        )

    def close(self, seconds: float, *, whole: bool = True) -> None:
        """Note that nothing more will come; not `whole` after an interruption."""
        self.seconds = seconds
        if not self.explanations:
            self.status = "failed"
        else:
            self.status = "explained" if whole and not self.mishaps else "partly"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {
            "file": self.request.shown,
            "status": self.status,
            "label": self.request.label,
            "sha256": self.digest,
            "folder": self.folder,
            "seconds": round(self.seconds, 6),
            "prediction": self.prediction or None,
            "explanations": self.explanations,
            "failures": [one.to_dict() for one in self.mishaps],
        }


class Journal:
    """All of a run.

    Parameters
    ----------
    arguments
        The arguments of the run, as JSON values.
    used
        (kind, name) of the plugins' components that take part.

    Attributes
    ----------
    status
        ``running``, then ``finished``, ``failed`` or ``interrupted``.
    model
        See `model_facts`.
    """

    def __init__(self, arguments: Mapping[str, Any], used: Sequence[tuple[str, str]]) -> None:
        self.status: Literal["running", "finished", "failed", "interrupted"] = "running"
        self.model: dict[str, Any] = {}
        self.entries: list[Entry] = []
        self.mishaps: list[Mishap] = []
        self._arguments = dict(arguments)
        self._versions = _versions(used)
        self._began = datetime.now(UTC)
        self._clock = perf_counter()

    def enter(self, request: ImageRequest) -> Entry:
        """Open the entry of an image."""
        entry = Entry(request)
        self.entries.append(entry)
        return entry

    def exit_code(self) -> int:
        """Return the exit code that the run has earned."""
        mishaps = [*self.mishaps, *(one for entry in self.entries for one in entry.mishaps)]
        if not mishaps:
            return 0
        if any(entry.explanations for entry in self.entries):
            # Every image was explained, and only drawing it failed: no input is to blame.
            if all(one.part == "renderer" for one in mishaps):
                return mishaps[0].error.exit_code
            return SOME_FAILED
        codes = {one.error.exit_code for one in mishaps}
        return codes.pop() if len(codes) == 1 else SOME_FAILED

    def document(self, files: Sequence[str]) -> dict[str, Any]:
        """Return the journal as JSON values; `files` are relative to the run's folder."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "started": self._began.isoformat(timespec="seconds"),
            "seconds": round(perf_counter() - self._clock, 6),
            "arguments": self._arguments,
            "versions": self._versions,
            "model": self.model,
            "images": [entry.to_dict() for entry in self.entries],
            "failures": [one.to_dict() for one in self.mishaps],
            "files": list(files),
        }


def model_facts(model: VisionModel) -> dict[str, Any]:
    """Return what identifies a model, as JSON values."""
    return {
        "name": model.name,
        "task": model.task.name,
        "weights_sha256": model.digest(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "classes": None if model.classes is None else len(model.classes),
        "details": model.details.to_dict(),
    }


def _versions(used: Sequence[tuple[str, str]]) -> dict[str, Any]:
    import torch

    names = {(kind, name.partition("@")[0]) for kind, name in used}
    distributions = {
        offer.distribution
        for kind in ("explainer", "renderer", "model source")
        for offer in registry().offers(kind)
        if (kind, offer.component.name) in names
    }
    return {
        "cvx": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "plugins": {name: version_of(name) for name in sorted(distributions)},
    }
