"""Package of a new plugin: its names, and its files from templates."""

from __future__ import annotations

import builtins
import re
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

import cvx_core
from cvx_core import OutputError, UsageError, did_you_mean
from cvx_core.cli import COMMANDS, kit
from cvx_core.plugins import component_name
from cvx_new_plugin.kinds import KINDS, PluginKind

_COMMON = "package/"
_SUFFIX = ".jinja"


@dataclass(frozen=True)
class Package:
    """The package of a new plugin with one component.

    Parameters
    ----------
    kind
        ``"explainer"``, ``"renderer"``, ``"model"``, ``"task"``, ``"command"`` or ``"engine"``.
    name
        Name of the component: lower-case words joined by hyphens.

    Raises
    ------
    UsageError
        If the kind is unknown, or the name is malformed or taken.

    Examples
    --------
    >>> package = Package("renderer", "value-table")
    >>> package.distribution, package.package, package.class_name
    ('cvx-value-table', 'cvx_value_table', 'ValueTable')
    >>> sorted(package.files())[:2]
    ['.github/workflows/test.yml', '.gitignore']
    """

    kind: str
    name: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}.",
                did_you_mean(self.kind, KINDS),
            )
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            near = re.sub(r"[^a-z0-9]+", "-", component_name(self.name)).strip("-0123456789")
            raise UsageError(
                f"Invalid name: {self.name!r}.",
                "Use lower-case words joined by hyphens, such as "
                + repr(near or "my-method")
                + ".",
            )
        if self.kind == "command" and self.name in COMMANDS:
            raise UsageError(f"{self.name!r} is a built-in command of cvx.", "Choose another name.")
        if find_spec(self.package) is not None:
            raise UsageError(f"{self.package!r} is already installed.", "Choose another name.")
        if hasattr(builtins, self.class_name) or hasattr(cvx_core, self.class_name):
            raise UsageError(
                f"The class {self.class_name} exists in Python or in cvx.",
                f"Choose a name that says what the {self.details.thing} does.",
            )
        kind, installed = self.details.thing, kit.installed_plugins()
        if kind in installed.kinds and self.name in installed.names(kind):
            raise UsageError(
                f"The {kind} {self.name!r} is already installed.", "Choose another name."
            )

    @property
    def details(self) -> PluginKind:
        """What is the same for all packages of this kind."""
        return KINDS[self.kind]

    @property
    def distribution(self) -> str:
        """Name of the distribution, and of its folder."""
        return f"cvx-{self.name}"

    @property
    def package(self) -> str:
        """Name of the package that is imported."""
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """Name of the component's class."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def usage(self) -> str:
        """Command that uses the component."""
        return self.details.usage.format(name=self.name, package=self.package)

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path inside the package's folder."""
        environment = Environment(
            loader=PackageLoader("cvx_new_plugin"),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            autoescape=False,
        )
        values = {
            "kind": self.kind,
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "class_name": self.class_name,
            "usage": self.usage,
            "details": self.details,
        }
        found = {}
        for template in environment.list_templates():
            if template.startswith((_COMMON, f"{self.kind}/")):
                path = template.partition("/")[2].removesuffix(_SUFFIX)
                path = path.replace("PACKAGE", self.package).replace("NAME", self.package[4:])
                found[path.replace("dot-", ".")] = environment.get_template(template).render(values)
        return found

    def write(self, folder: Path) -> list[Path]:
        """Write the files to ``folder / distribution`` and return their paths.

        Raises
        ------
        OutputError
            If that folder exists and has files in it, or can't be written to.
        """
        project = folder / self.distribution
        if project.exists() and (not project.is_dir() or any(project.iterdir())):
            raise OutputError(
                f"{project} already exists.", "Choose another name, or another folder with -o."
            )
        files = sorted(self.files().items())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Renamed when it is whole: a part of a package would be in the way of the next try.
            with tempfile.TemporaryDirectory(dir=folder, prefix=".cvx-") as temporary:
                whole = Path(temporary) / self.distribution
                for path, text in files:
                    (whole / path).parent.mkdir(parents=True, exist_ok=True)
                    (whole / path).write_bytes(text.encode())
                whole.rename(project)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"{project} could not be written: {reason}.",
                "Nothing was left behind; choose another folder with -o or make room.",
            ) from error
        return [project / path for path, _ in files]
