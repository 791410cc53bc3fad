"""Self-contained HTML page of a report, without scripts."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from cvx_core import Explanation, printable
from cvx_core.explanations import overlay
from cvx_why.report.data import ReportData
from cvx_why.report.images import Mask, center, contour_path, data_uri, fill_region, network_view
from cvx_why.report.summary import MEANING, conclusions, describe_profile, estimate, position
from cvx_why.search.regions import FillReport

_LARGE, _SMALL, _MAP = 640, 260, 400
"""Longest sides of images, in pixels."""


def page(report: ReportData) -> str:
    """Return a report as one HTML page that loads nothing."""
    small = network_view(report.blame, _SMALL)
    fix = report.fix
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            predicted=report.predicted.text if report.predicted else "nothing",
            conclusions=conclusions(report),
            view=_drawing(network_view(report.blame, _LARGE), report.blame.values.shape),
            original=_drawing(small, report.blame.values.shape),
            box=_target_box(report),
            regions=[
                {
                    "number": number,
                    "kind": one.verdict.split()[0],
                    "meaning": MEANING[one.verdict],
                    "estimate": estimate(one),
                    "position": position(one.mask),
                    "shape": _shape(one.mask),
                    "data": one,
                    "fills": [_fill(small, one.mask, *each) for each in one.fills.items()],
                }
                for number, one in enumerate(report.regions, 1)
            ],
            fix=fix
            and {
                "position": position(fix.mask),
                "shape": _shape(fix.mask),
                "fill": _fill(
                    small, fix.mask, fix.fill, FillReport(fix.change, correct=True, note=fix.note)
                ),
            },
            maps=[
                ("blame: measured effect of perturbations", *_map(report.blame)),
                ("contrast: estimate from gradients, without perturbation", *_map(report.contrast)),
            ],
            profile=[row.to_dict() for row in report.profile],
            profile_text=describe_profile(report.profile) if report.profile else "",
        )
    )


def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("cvx_why", "report"),
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _drawing(image: Image.Image, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"source": data_uri(image), "width": shape[1], "height": shape[0]}


def _target_box(report: ReportData) -> list[float] | None:
    """Return left, top, width and height of the target's box, in pixels of the input."""
    box = report.blame.target.box
    if box is None:
        return None
    height, width = report.blame.values.shape
    left, top, right, bottom = report.blame.extent
    across, down = width / (right - left), height / (bottom - top)
    return [
        (box[0] - left) * across,
        (box[1] - top) * down,
        (box[2] - box[0]) * across,
        (box[3] - box[1]) * down,
    ]


def _shape(mask: Mask) -> dict[str, Any]:
    """Return the contour of a region, and the place of a tag in it."""
    size = min(mask.shape) / 14
    x, y = (max(0.0, at - size / 2) for at in center(mask))
    return {"path": contour_path(mask), "size": size, "x": x, "y": y}


def _fill(image: Image.Image, mask: Mask, name: str, fill: FillReport) -> dict[str, Any]:
    filled = fill_region(image, mask, name)
    return {"name": name, "data": fill, "source": None if filled is None else data_uri(filled)}


def _map(explanation: Explanation) -> tuple[str, float]:
    height, width = explanation.image.shape[:2]
    scale = min(1.0, _MAP / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return data_uri(overlay(explanation, size)), float(explanation.values.sum())
