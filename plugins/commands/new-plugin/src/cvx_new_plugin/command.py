"""Command ``cvx new-plugin``."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core import install_command
from cvx_core.cli import kit
from cvx_new_plugin.kinds import KINDS


@click.command(
    "new-plugin",
    epilog="Example: cvx new-plugin explainer pixel-contribution",
)
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder in which to write the package's folder, cvx-NAME.",
)
@click.pass_obj
def command(settings: kit.Settings, /, kind: str, name: str, folder: Path) -> int:  # noqa: ARG001
    """Write the package of a new plugin: DIR/cvx-NAME.

    NAME is what users type, in lower case with hyphens. The package works as it is: it has one
    component that does something simple, conformance tests, a README and a CI file. Replace the
    component's code with your own.
    """
    from cvx_new_plugin.package import Package

    package = Package(kind, name)
    written = package.write(folder)
    for file in written:
        kit.put(str(file))
    project = folder / package.distribution
    kit.say(f"Install it:  {install_command(project)}")
    kit.say(f"Test it:     pytest {project}")
    kit.say(f"Use it:      {package.usage}")
    return 0
