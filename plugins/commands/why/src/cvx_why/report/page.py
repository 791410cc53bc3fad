"""The report as a page: what was blamed, what was removed, and what the network answered then."""

from __future__ import annotations

import html
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from PIL import Image

from cvx_core import printable
from cvx_core.explanations import overlay
from cvx_why.report.data import Removal
from cvx_why.report.images import Mask, middle, outline, seen, uri, without
from cvx_why.report.summary import MEANING, conclusion, depth, place

if TYPE_CHECKING:
    from cvx_core import Explanation
    from cvx_why.report.data import FixFound, RegionReport, ReportData

_LARGE, _SMALL = 640, 260
"""Longest sides of pictures, in pixels."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: ReportData) -> str:
    """Return a report as one self-contained HTML page, without scripts."""
    style = files("cvx_why.report").joinpath("page.css").read_text("utf-8")
    body = "\n".join(_body(report))
    title = _text(f"Why is it wrong? {report.name}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{style}</style></head>\n<body><main>\n{body}\n"
        "</main></body></html>\n"
    )


def _text(text: str) -> str:
    return html.escape(printable(text))


def _body(report: ReportData) -> Iterator[str]:
    said = report.predicted.text if report.predicted else "nothing"
    yield f'<p class="soft">{_text(report.name)} · {_text(report.model)}</p>'
    if report.type == "right":
        yield f"<h1>The answer is right: {_text(said)}</h1>"
        yield f'<div class="lead">{_picture(uri(seen(report.blame, _LARGE)), "The image")}</div>'
        return
    truth = f", the truth <b>{_text(report.true.text)}</b>" if report.true else ""
    yield f"<h1>The answer is <b>{_text(said)}</b>{truth}.</h1>"
    yield f'<p class="soft">{_text(report.type)} · {_text(report.request)}</p>'
    if report.blame.target.note:
        yield f"<p>{_text(report.blame.target.note)}</p>"
    yield '<ul class="conclusion">' + "".join(f"<li>{_text(c)}</li>" for c in conclusion(report))
    yield "</ul>"
    yield '<div class="lead">'
    yield _map(report)
    yield f"<div>{_legend(report)}</div></div>"
    if report.regions:
        yield "<h2>What happened without each region</h2>"
        yield _yardstick(report)
        small = seen(report.blame, _SMALL)
        for number, one in enumerate(report.regions, 1):
            yield _region(report, number, one, small)
    if report.fix is not None:
        yield from _fix(report, report.fix)
    yield "<h2>Maps</h2>"
    yield '<p class="soft">Red speaks for the wrong answer, blue for the right one; '
    yield '<a href="maps.html">maps.html</a> has the exact values.</p><div class="row">'
    yield _overlay(report.blame, "blame: what the removals showed")
    yield _overlay(report.contrast, "contrast: what the gradients say, before any removal")
    yield "</div>"
    if report.profile:
        yield _profile(report)
    yield (
        f'<p class="soft">{report.passes} images were run of {report.budget} allowed, '
        f"{report.backwards} of them backwards too.</p>"
    )


def _picture(source: str, alt: str) -> str:
    return f'<img src="{source}" alt="{_text(alt)}">'


def _map(report: ReportData) -> str:
    height, width = report.blame.values.shape
    shapes = [
        _shape(one.mask, one.verdict.split()[0], str(number))
        for number, one in enumerate(report.regions, 1)
    ]
    box = report.blame.target.box
    caption = "What the network saw, with the regions that were looked into"
    if box is not None:
        left, top, right, bottom = report.blame.extent
        x, wide = (box[0] - left) * width / (right - left), (box[2] - box[0]) / (right - left)
        y, high = (box[1] - top) * height / (bottom - top), (box[3] - box[1]) / (bottom - top)
        place = f'x="{x:.1f}" y="{y:.1f}" width="{wide * width:.1f}" height="{high * height:.1f}"'
        shapes.insert(0, f'<rect class="halo" {place}/><rect class="asked" {place}/>')
        caption += "; yellow is what the error is about"
    picture = _drawn(seen(report.blame, _LARGE), (width, height), "".join(shapes))
    return f"<figure>{picture}<figcaption>{caption}.</figcaption></figure>"


def _drawn(picture: Image.Image, size: tuple[int, int], shapes: str) -> str:
    width, height = size
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The picture with outlines">'
        f'<image href="{uri(picture)}" width="{width}" height="{height}"/>{shapes}</svg>'
    )


def _shape(mask: Mask, kind: str, number: str = "") -> str:
    path = outline(mask)
    drawn = f'<path class="halo" d="{path}"/><path class="{kind}" d="{path}"/>'
    if not number:
        return drawn
    size = min(mask.shape) / 14
    x, y = (max(0.0, at - size / 2) for at in middle(mask))
    return (
        f'{drawn}<rect class="tag {kind}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{size:.1f}" height="{size:.1f}"/><text x="{x + size / 2:.1f}" '
        f'y="{y + 0.78 * size:.1f}" font-size="{0.8 * size:.1f}">{number}</text>'
    )


def _legend(report: ReportData) -> str:
    rows = []
    for number, one in enumerate(report.regions, 1):
        kind = one.verdict.split()[0]
        rows.append(
            f'<li><span class="number {kind}">{number}</span> <b>{_text(one.verdict)}</b>, '
            f"{_text(place(one.mask))}, {100 * one.share:.1f} % of the pixels"
            f'<br><span class="soft">{_text(MEANING[one.verdict])}</span></li>'
        )
    return f'<ol class="legend">{"".join(rows)}</ol>' if rows else ""


def _yardstick(report: ReportData) -> str:
    return (
        '<p class="soft">The margin is by how much the wrong answer is ahead, in logits: '
        f"{report.margin:.2f} now. Removing as much elsewhere takes {report.usual:.2f} off it "
        "in the middle.</p>"
    )


def _region(report: ReportData, number: int, one: RegionReport, small: Image.Image) -> str:
    kind = one.verdict.split()[0]
    cells = [
        _removal(report, name, removal, without(small, one.mask, name))
        for name, removal in one.removals.items()
    ]
    return (
        f'<section><h3><span class="number {kind}">{number}</span> {_text(one.verdict)}</h3>'
        f'<div class="row">{_before(report, small, one.mask, kind)}{"".join(cells)}</div>'
        f'<p class="soft">The gradients foretold a change of {one.predicted:+.2f}; the fills '
        f"differ by up to {one.disagreement:.2f}.</p></section>"
    )


def _before(report: ReportData, small: Image.Image, mask: Mask, kind: str) -> str:
    height, width = mask.shape
    picture = _drawn(small, (width, height), _shape(mask, kind))
    return _cell(picture, "as it is", report.margin, report.margin, "")


def _removal(report: ReportData, name: str, removal: Removal, shown: Image.Image | None) -> str:
    picture = _picture(uri(shown), name) if shown else '<div class="none">not shown</div>'
    note = f"{removal.note} {'✓ right' if removal.right else ''}".strip()
    return _cell(picture, name, report.margin + removal.change, report.margin, note)


def _cell(picture: str, name: str, margin: float, before: float, note: str) -> str:
    share = max(-1.0, min(1.0, margin / abs(before))) if before else 0.0
    left, width = 50 + 50 * min(share, 0), 50 * abs(share)
    side = "wrong" if share > 0 else "right"
    return (
        f"<figure>{picture}<figcaption><b>{_text(name)}</b> {_text(note)}"
        f'<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{side}" x="{left:.1f}" width="{width:.1f}" height="6"/>'
        '<rect class="zero" x="49.75" width=".5" height="6"/></svg>'
        f"margin {margin:+.2f}</figcaption></figure>"
    )


def _fix(report: ReportData, fix: FixFound) -> Iterator[str]:
    small = seen(report.blame, _SMALL)
    removal = Removal(fix.change, True, fix.note)
    yield "<h2>The smallest removal found that makes it right</h2>"
    yield f'<p class="soft">{100 * fix.share:.1f} % of the pixels, {_text(place(fix.mask))}. '
    yield "It was run once more to be sure.</p>"
    yield f'<div class="row">{_before(report, small, fix.mask, "verified")}'
    yield f"{_removal(report, fix.fill, removal, without(small, fix.mask, fix.fill))}</div>"


def _overlay(explanation: Explanation, caption: str) -> str:
    height, width = explanation.image.shape[:2]
    scale = min(1.0, _LARGE / 1.6 / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return (
        f"<figure>{_picture(uri(overlay(explanation, size)), caption)}"
        f"<figcaption>{_text(caption)}; sum {explanation.values.sum():+.2f} logits</figcaption>"
        "</figure>"
    )


def _profile(report: ReportData) -> str:
    rows = [row.to_dict() for row in report.profile]
    largest = max(abs(row["cells"]) for row in rows) or 1.0
    cells = []
    for row in rows:
        share = row["cells"] / largest
        left, width = 50 + 50 * min(share, 0), 50 * abs(share)
        cells.append(
            f"<tr><td>{_text(row['layer'])}</td><td>{'x'.join(map(str, row['grid']))}</td>"
            '<td><svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" '
            f'aria-hidden="true"><rect class="{"wrong" if share > 0 else "right"}" '
            f'x="{left:.1f}" width="{width:.1f}" height="6"/>'
            '<rect class="zero" x="49.75" width=".5" height="6"/></svg></td>'
            f"<td>{row['cells']:+.2f}</td><td>{row['constant_part']:+.2f}</td></tr>"
        )
    return (
        f"<h2>By layer</h2><p>{_text(depth(report.profile))}</p>"
        '<p class="soft">What the cells of each layer carry of the margin, in logits: red for the '
        "wrong answer, green for the right one. Constants behind the layer carry the rest.</p>"
        "<table><thead><tr><th>layer</th><th>grid</th><th></th><th>cells</th><th>constants</th>"
        f"</tr></thead><tbody>{''.join(cells)}</tbody></table>"
    )
