"""The group of all commands, each imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from cvx_core._util.text import printable
from cvx_core._util.version import __version__
from cvx_core.cli.kit.console import Settings, installed_plugins, only_data
from cvx_core.errors import PluginError, UnknownComponentError, did_you_mean, install_command
from cvx_core.plugins.discovery import package_of
from cvx_core.plugins.isolation import REPORT

if TYPE_CHECKING:
    from cvx_core.plugins.component_registry import Registry

COMMANDS = {
    "classes": ("cvx_core.cli.classes:classes", "List the classes of a model by index and name."),
    "compare": (
        "cvx_core.cli.explain.compare:compare",
        "Draw maps of several models, methods or targets on one scale.",
    ),
    "doctor": (
        "cvx_core.cli.installation.doctor:doctor",
        "Check the installation and say what is missing.",
    ),
    "explain": (
        "cvx_core.cli.explain.command:explain",
        "Explain images: write maps, an HTML page and run.json.",
    ),
    "layers": ("cvx_core.cli.layers:layers", "List the layers of a model that can be explained."),
    "models": ("cvx_core.cli.models:models", "List the models that can be explained."),
    "plugins": (
        "cvx_core.cli.installation.plugins:plugins",
        "List installed components and plugins that failed to load.",
    ),
    "render": ("cvx_core.cli.render.command:render", "Render saved explanations."),
}
"""Target and summary of each built-in command, so that the help imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands, built in or of plugins, are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands, sorted."""
        return sorted(_summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, looking into the plugins only for one that is not built in."""
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            found: click.Command = getattr(import_module(module), name)
            return found
        if cmd_name.startswith("-"):
            return None
        return _from_plugin(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command, and set the defaults of its options from the configuration file."""
        name, command, rest = super().resolve_command(ctx, args)
        # The completion must not fail, and 'cvx doctor' lists what is wrong with the file.
        if name and command and name != "doctor" and not ctx.resilient_parsing:
            from cvx_core.cli.kit.configuration import Configuration

            given = Configuration.read()
            if given.tables:
                given.check_commands(self.list_commands(ctx))
                ctx.default_map = {name: given.defaults(name, command)}
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands with their summaries, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_summaries().items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write where to start."""
        formatter.write_paragraph()
        formatter.write("Start with: cvx demo\n")


def _plugins() -> Registry:
    with only_data():
        return installed_plugins()


def _summaries() -> dict[str, str]:
    offered = {
        printable(offer.component.name): printable(offer.component.summary)
        for offer in _plugins().offers("command")
    }
    return offered | {name: summary for name, (_, summary) in COMMANDS.items()}


def _from_plugin(ctx: click.Context, name: str) -> click.Command:
    plugins = _plugins()
    try:
        component = plugins.find("command", name)
    except UnknownComponentError:
        known = [*COMMANDS, *plugins.names("command")]
        package = package_of(name)
        said = f"Install the package that brings it: {install_command(package)}" if package else ""
        said = said or did_you_mean(name, known) or f"Available: {', '.join(sorted(known))}."
        raise click.UsageError(f"Unknown command {name!r}. {said}", ctx) from None
    with only_data():
        command: Any = component.load()
    if not isinstance(command, click.Command):
        raise PluginError(
            f"The command {name!r} must be a click.Command, got {type(command).__name__}.",
            REPORT,
        )
    settings = ctx.find_object(Settings)
    if settings is not None:
        settings.command = name
    return command


def _set_verbose(ctx: click.Context, param: click.Parameter, verbose: bool) -> None:  # noqa: ARG001
    # Not in the group itself, which runs only after the command was imported, and that can fail.
    settings = ctx.find_object(Settings)
    if settings is not None:
        settings.verbose = verbose


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show the traceback of every error.",
)
@click.version_option(__version__, prog_name="cvx")
def group() -> None:
    """Explain PyTorch vision models: what a model looks at, and why a prediction is wrong."""
