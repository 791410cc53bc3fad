"""Explainers and renderers that are quick and go wrong on purpose."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import ClassVar

from cvx_core import (
    Artifact,
    Attribution,
    Explainer,
    ExplainRequest,
    Explanation,
    Margin,
    MethodError,
    Renderer,
    Requirements,
)


@dataclass(frozen=True)
class AnyQuestion(Explainer):
    """The input's mean over channels, times the largest entry of the seed."""

    gain: float = 1.0

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        logits = request.recording(self.requirements()).logits
        base = request.inputs.mean(1) * self.gain
        return [
            Attribution(base * seed.max(1).values[:, None, None]) for seed in request.seeds(logits)
        ]


@dataclass(frozen=True)
class SameMap(AnyQuestion):
    class_specific: ClassVar[bool] = False


@dataclass(frozen=True)
class NeedsLabel(AnyQuestion):
    default_target = Margin()


@dataclass(frozen=True)
class FailsOnDark(AnyQuestion):
    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        if request.inputs.mean() < -1:
            raise ZeroDivisionError("too dark\x1b[31m to see")
        return super().attribute(request)


@dataclass(frozen=True)
class NoAnswer(AnyQuestion):
    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        print("asked", file=sys.stderr)
        raise MethodError("This method has no answer for this model.", "Take another.")


@dataclass(frozen=True)
class Waits(AnyQuestion):
    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        if request.inputs.mean() < -1:
            print("waiting", file=sys.stderr, flush=True)
            time.sleep(600)
        return super().attribute(request)


@dataclass(frozen=True)
class EachMap(Renderer):
    suffix: ClassVar[str] = ".map"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(".map", "text/plain", explanations[0].title.encode())


@dataclass(frozen=True)
class OnePage(Renderer):
    suffix: ClassVar[str] = ".html"
    joins: ClassVar[bool] = True

    def draw(self, explanations: list[Explanation]) -> Artifact:
        lines = [f"{one.name} {one.title}" for one in explanations]
        return Artifact(".html", "text/html", "\n".join(lines).encode())


@dataclass(frozen=True)
class OneText(OnePage):
    suffix: ClassVar[str] = ".txt"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(".txt", "text/plain", super().draw(explanations).data)


@dataclass(frozen=True)
class Escapes(EachMap):
    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact("/../../escaped.txt", "text/plain", b"out")


@dataclass(frozen=True)
class Breaks(EachMap):
    suffix: ClassVar[str] = ".broken"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        raise RuntimeError("no ink")
