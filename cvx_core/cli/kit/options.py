"""What verbs share: the options that say which model, and a Python function of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cvx_core.plugins.defaults import MODEL

F = TypeVar("F", bound=Callable[..., Any])

model_option = click.option(
    "-m",
    "--model",
    metavar="MODEL",
    default=MODEL,
    envvar="CVX_MODEL",
    show_default=True,
    show_envvar=True,
    help="SOURCE, SOURCE:NAME, file.py:FACTORY or package.module:FACTORY.",
)


def loading_options(command: F) -> F:
    """Add ``--weights``, ``--trust-checkpoint`` and ``--device``."""
    for option in (
        click.option(
            "--device", metavar="DEVICE", help="As PyTorch names it: cpu, cuda, cuda:1, mps."
        ),
        click.option(
            "--trust-checkpoint",
            is_flag=True,
            help="Let the weights' file run code. Only for files you made yourself.",
        ),
        click.option(
            "--weights", metavar="WEIGHTS", help="A .safetensors or .pth file, a name, or 'random'."
        ),
    ):
        command = option(command)
    return command
