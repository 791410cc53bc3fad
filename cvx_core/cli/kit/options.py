"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cvx_core.cli.kit.completion import (
    complete_explainers,
    complete_models,
    complete_renderers,
)
from cvx_core.plugins.defaults import EXPLAINERS, MODEL, RENDERERS

F = TypeVar("F", bound=Callable[..., Any])

_COMPONENT = "NAME[:KEY=VALUE,...]"

images_argument = click.argument("images", nargs=-1, required=True)
labels_option = click.option(
    "--label",
    "labels",
    metavar="LABEL",
    multiple=True,
    help="Ground truth. Classifiers: a class name or index. Segmenters: a mask file. Detectors: a "
    "COCO, VOC or YOLO file. Pass it once for all images, or once per image in order. A CSV with "
    "the columns path and label, or a COCO file, has the labels of all images; 'folder' stands for "
    "the names of their folders.",
)
model_option = click.option(
    "-m",
    "--model",
    metavar="MODEL",
    default=MODEL,
    envvar="CVX_MODEL",
    show_default=True,
    show_envvar=True,
    shell_complete=complete_models,
    help="Model: SOURCE, SOURCE:NAME, file.py:FACTORY or package.module:FACTORY.",
)
weights_option = click.option(
    "--weights",
    metavar="WEIGHTS",
    help="A .safetensors or .pth file, the name of published weights, or 'random'.",
)
trust_option = click.option(
    "--trust-checkpoint",
    is_flag=True,
    help="Allow the weights file to run code (full unpickling). Use only with files you trust.",
)
device_option = click.option(
    "--device", metavar="DEVICE", help="PyTorch device: cpu, cuda, cuda:1 or mps."
)
renderers_option = click.option(
    "-r",
    "--renderer",
    "renderers",
    metavar=_COMPONENT,
    multiple=True,
    shell_complete=complete_renderers,
    help=f"A renderer; repeatable. Default: {' and '.join(RENDERERS)}.",
)
memory_option = click.option("--memory", type=int, metavar="BYTES", help="Memory limit per batch.")
seed_option = click.option("--seed", default=0, show_default=True, help="Random seed.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only print errors.")
force_option = click.option("--force", is_flag=True, help="Overwrite existing files.")
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show the traceback of every error."
)


def loading_options(command: F) -> F:
    """Add ``--weights``, ``--trust-checkpoint`` and ``--device``."""
    return weights_option(trust_option(device_option(command)))


def explainers_option(default: Sequence[str] = EXPLAINERS) -> Callable[[F], F]:
    """Return ``--explainer``, whose help names the methods that run without it."""
    return click.option(
        "-e",
        "--explainer",
        "explainers",
        metavar=_COMPONENT,
        multiple=True,
        shell_complete=complete_explainers,
        help="A method, or a composition such as 'mean(A, B)'; repeatable. "
        f"Default: {', '.join(default)}.",
    )


def output_option(default: str) -> Callable[[F], F]:
    """Return ``--output`` with a default folder."""
    return click.option(
        "-o",
        "--output",
        "folder",
        metavar="DIR",
        default=default,
        show_default=True,
        type=click.Path(path_type=Path),
        help="Output folder.",
    )


def json_option(file: str = "") -> Callable[[F], F]:
    """Return ``--json``, which prints a file that the command writes, or a listing."""
    text = f"Print {file} on standard output." if file else "Print JSON."
    return click.option("--json", "as_json", is_flag=True, help=text)
