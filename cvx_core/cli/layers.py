"""Command ``cvx layers``: the layers of a model that can be explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cvx_core._util.text import shortened
from cvx_core.cli.installation.plugins import put_table
from cvx_core.cli.kit.completion import complete_models
from cvx_core.cli.kit.console import Settings, only_data, put
from cvx_core.cli.kit.options import json_option, trust_option, weights_option
from cvx_core.errors import LayerError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from cvx_core.models.vision_model import VisionModel
    from cvx_core.recording import Layout

SCHEMA = "cvx.layers/1"
LARGEST = 8192
"""Largest side of an input in pixels; noise of this size takes 800 MB."""


@click.command()
@click.argument("model", shell_complete=complete_models)
@weights_option
@trust_option
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    help="Input size, for models without a preprocess.",
)
@click.option("--all", "every", is_flag=True, help="Include layers without a spatial output.")
@json_option()
@click.pass_obj
def layers(
    settings: Settings,  # noqa: ARG001
    model: str,
    weights: str | None,
    trust_checkpoint: bool,
    size: str | None,
    every: bool,
    as_json: bool,
) -> int:
    """List the layers of MODEL with a spatial output, in forward order.

    A star marks the layer that 'layer=auto' selects; the first line gives the reason. Pass a name
    to a method: -e class-attention:layer=NAME.
    """
    with only_data():
        from cvx_core.models.sources import load_model
        from cvx_core.recording import Layout, find_last_grid

        loaded = load_model(model, weights=weights, trust_checkpoint=trust_checkpoint)
        inputs = _inputs(loaded, size)
        layout = Layout.of(loaded, inputs)
        try:
            found = find_last_grid(loaded, inputs)
        except LayerError as error:
            chosen, reason = None, f"No layer selected: {error.message} {error.hint}"
        else:
            chosen, reason = found.name, found.reason
        rows = _rows(layout, chosen, every=every)
    if as_json:
        document = {
            "schema": SCHEMA,
            "model": loaded.name,
            "input_size": [int(inputs.shape[3]), int(inputs.shape[2])],
            "chosen": chosen,
            "reason": reason,
            "layers": rows,
        }
        put(json.dumps(document, indent=2))
        return 0
    put(f"* {reason}" if chosen is not None else reason)
    put_table(
        (
            "*" if row["chosen"] else "",
            shortened(row["name"]),
            " x ".join(map(str, row["shape"])),
            "" if row["grid"] is None else "{} x {} ({})".format(*row["grid"], row["kind"]),
            f"after {row['prefix']} other tokens" if row["prefix"] else "",
        )
        for row in rows
    )
    return 0


def _inputs(model: VisionModel, size: str | None) -> Tensor:
    import torch
    from PIL import Image

    noise = torch.Generator().manual_seed(0)
    if size is not None:
        width, x, height = size.lower().partition("x")
        if not (x and width.isdecimal() and height.isdecimal() and int(width) * int(height)):
            raise UsageError(f"Invalid size: {size!r}.", "Write WIDTHxHEIGHT, as in 224x224.")
        if max(int(width), int(height)) > LARGEST:
            raise UsageError(
                f"size must be at most {LARGEST}x{LARGEST}, got {size}.",
                "Pass a smaller --size.",
            )
        shape = (1, 3, int(height), int(width))
    elif model.preprocess is not None:
        tensor = model.prepare(Image.new("RGB", (320, 240), (127, 127, 127)))[0].tensor
        shape = (1, *tensor.shape)
    else:
        raise UsageError(
            "The model has no preprocess, so its input size is unknown.",
            "Pass --size 224x224.",
        )
    return torch.randn(shape, generator=noise).to(model.device, model.dtype)


def _rows(layout: Layout, chosen: str | None, *, every: bool) -> list[dict[str, Any]]:
    also: dict[str, list[str]] = {}
    for name, kept in layout.aliases.items():
        also.setdefault(kept, []).append(name)
    rows: list[dict[str, Any]] = [
        {
            "name": place.name,
            "shape": list(place.shape),
            "kind": place.kind,
            "grid": list(place.grid),
            "prefix": place.prefix,
            "also": sorted(also.get(place.name, [])),
            "chosen": place.name == chosen,
        }
        for place in layout.layers
    ]
    if every:
        named = {place.module for place in layout.layers} | set(layout.aliases)
        rows += [
            {
                "name": name,
                "shape": list(shape),
                "kind": "no grid",
                "grid": None,
                "prefix": 0,
                "also": [],
                "chosen": False,
            }
            for name, shape in layout.shapes.items()
            if name not in named
        ]
    return rows
