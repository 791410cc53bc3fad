"""The verbs, each imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from cvx_core._util.version import __version__
from cvx_core.cli.kit.console import Settings, only_data
from cvx_core.errors import PluginError, UnknownComponentError, did_you_mean
from cvx_core.plugins.isolation import REPORT

VERBS = {
    "classes": ("cvx_core.cli.classes:classes", "List the classes of a model by index and name."),
    "explain": (
        "cvx_core.cli.explain.command:explain",
        "Explain photographs and write what was found.",
    ),
    "layers": ("cvx_core.cli.layers:layers", "List the layers of a model that can be looked at."),
    "models": ("cvx_core.cli.models:models", "List the models that can be explained."),
    "plugins": ("cvx_core.cli.plugins:plugins", "List what is installed, and what failed."),
    "render": ("cvx_core.cli.render.command:render", "Draw saved explanations again."),
}
"""Where each verb is, and its line in the help; written down here so that the help imports
none of them."""


class LazyGroup(click.Group):
    """A group whose verbs, its own and those of plugins, are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the built-in verbs."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb, looking into the plugins only for one that is not ours."""
        if cmd_name in VERBS:
            module, _, name = VERBS[cmd_name][0].partition(":")
            found: click.Command = getattr(import_module(module), name)
            return found
        if cmd_name.startswith("-"):
            return None
        return _from_plugin(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the verbs with their lines, importing none."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(VERBS.items())])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write where to start, and where the verbs of plugins are listed."""
        formatter.write_paragraph()
        formatter.write("Start with: cvx demo\n")
        formatter.write("Plugins bring more verbs (demo is one); 'cvx plugins' lists them.\n")


def _from_plugin(ctx: click.Context, name: str) -> click.Command:
    from cvx_core.cli.kit.plugin_warnings import installed_plugins

    with only_data():
        plugins = installed_plugins()
    try:
        component = plugins.find("command", name)
    except UnknownComponentError:
        known = [*VERBS, *plugins.names("command")]
        raise click.UsageError(
            f"No verb is called {name!r}. "
            + (did_you_mean(name, known) or "There are " + ", ".join(sorted(known)) + "."),
            ctx,
        ) from None
    with only_data():
        verb: Any = component.load()
    if not isinstance(verb, click.Command):
        raise PluginError(
            f"The verb {name!r} is a {type(verb).__name__}, not a click.Command.",
            REPORT,
        )
    settings = ctx.find_object(Settings)
    if settings is not None:
        settings.verb = name
    return verb


def _set_verbose(ctx: click.Context, param: click.Parameter, verbose: bool) -> None:  # noqa: ARG001
    # Not in the group itself, which runs only after the verb was imported, and that can fail.
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
    """Show what a vision model looks at, and why it is wrong."""
