"""Command ``cvx doctor``: whether the installation works, and how to get what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from cvx_core._util.text import printable
from cvx_core.cli.installation.plugins import put_table
from cvx_core.cli.kit.console import only_data, put
from cvx_core.cli.kit.options import json_option
from cvx_core.errors import PluginError
from cvx_core.plugins.discovery import registry

SCHEMA = "cvx.doctor/1"


@click.command()
@json_option()
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Check the installation: versions, devices, plugins, and what is missing.

    Imports every component and computes on every device. The exit code is 6 if something does not
    work. Include the output in a bug report.
    """
    with only_data():
        from cvx_core.cli.installation import findings

        found = registry()
        report = [
            *findings.version_findings(findings.distributions_of(found)),
            *findings.device_findings(),
            *findings.plugin_findings(found),
            *findings.extra_findings(),
            *findings.environment_findings(),
            *findings.configuration_findings(ctx.find_root()),
        ]
    problems = [one for one in report if one.problem]
    if as_json:
        document = {"schema": SCHEMA, "findings": [asdict(one) for one in report]}
        put(json.dumps(document, indent=2))
    else:
        put_table(
            (one.area, one.name, one.value, "PROBLEM" if one.problem else "") for one in report
        )
        for one in report:
            if one.hint:
                put(printable(f"{one.name}: {one.hint}"))
        put(f"{len(problems)} problems" if problems else "No problems found.")
    return PluginError.exit_code if problems else 0
