"""HTML renderer: one self-contained interactive page for a whole run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cvx_core import OptionError, printable
from cvx_core.explanations import Artifact, Explanation, Renderer
from cvx_html.page_data import describe

_SCRIPTS = ("field.js", "paint.js", "text.js", "viewer.js", "lists.js", "start.js")
"""Parts of the page's script, in order; they are concatenated and share one scope."""


@dataclass(frozen=True)
class Html(Renderer):
    """A page with every image, method and target of a run, in one file.

    It loads nothing over the network, and its content security policy forbids it to: images,
    maps at native resolution with exact values, style and script are embedded. Untrusted text
    (class names, file names) reaches the page as JSON only.

    Parameters
    ----------
    title
        Heading of the page.
    longest
        Longest side in pixels of embedded images, at least 64. Maps are not affected.

    Raises
    ------
    OptionError
        If a parameter has the wrong type or is out of range.
    """

    title: str = "What the model looked at"
    longest: int = 1024

    suffix: ClassVar[str] = ".html"
    media_type: ClassVar[str] = "text/html"
    joins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.longest, bool) or not isinstance(self.longest, int) or self.longest < 64:
            raise OptionError(f"longest must be an integer of at least 64, got {self.longest!r}.")
        if not isinstance(self.title, str):
            raise OptionError(f"title must be a str, got {type(self.title).__name__}.")

    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the page; the same explanations always give the same bytes."""
        style = _read("page.css")
        script = "\n" + "\n".join(_read(name) for name in _SCRIPTS)
        policy = (
            f"default-src 'none'; img-src data:; script-src '{_sha256(script)}'; "
            f"style-src '{_sha256(style)}'; base-uri 'none'; form-action 'none'"
        )
        page = (
            _environment()
            .get_template("page.html")
            .render(
                title=printable(self.title),
                policy=policy,
                style=Markup(style),
                script=Markup(script),
                document=describe(explanations, self.longest),
            )
        )
        return Artifact(self.suffix, self.media_type, page.encode("utf-8"))


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("cvx_html", "page"),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _read(name: str) -> str:
    return files("cvx_html").joinpath("page", name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
