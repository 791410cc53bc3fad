"""``cvx layers``: where a network can be looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cvx_core._util.text import shortened
from cvx_core.cli.kit.console import Settings, only_data, put
from cvx_core.cli.plugins import table
from cvx_core.errors import LayerError, UsageError
from cvx_core.recording.layer_selection.selection import find_last_grid

if TYPE_CHECKING:
    from torch import Tensor

    from cvx_core.models.vision_model import VisionModel
    from cvx_core.recording import Layout

SCHEMA = "cvx.layers/1"
LARGEST = 8192
"""Pixels of a side of an input; noise of this size has 800 MB."""


@click.command()
@click.argument("model")
@click.option("--weights", metavar="WEIGHTS", help="As for 'cvx explain'; 'random' for none.")
@click.option("--trust-checkpoint", is_flag=True, help="Let a checkpoint run code when loaded.")
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    help="Size of the network's input, for models without a preprocess.",
)
@click.option("--all", "every", is_flag=True, help="Also layers whose output is no grid.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    """List the layers of MODEL that hold a grid of cells, in the order of its forward pass.

    The reason for the layer that 'layer=auto' takes comes first; in the list it is marked. Any of
    the names can be given to a method: -e class-attention:layer=NAME.
    """
    with only_data():
        from cvx_core.models.sources import load_model
        from cvx_core.recording import Layout

        loaded = load_model(model, weights=weights, trust_checkpoint=trust_checkpoint)
        inputs = _inputs(loaded, size)
        layout = Layout.of(loaded, inputs)
        try:
            found = find_last_grid(loaded, inputs)
        except LayerError as error:
            chosen, reason = None, f"No layer is chosen: {error.message} {error.hint}"
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
    for line in table(
        (
            "*" if row["chosen"] else "",
            shortened(row["name"]),
            " x ".join(map(str, row["shape"])),
            "" if row["grid"] is None else "{} x {} {}".format(*row["grid"], row["kind"]),
            f"after {row['prefix']} other tokens" if row["prefix"] else "",
        )
        for row in rows
    ):
        put(line)
    return 0


def _inputs(model: VisionModel, size: str | None) -> Tensor:
    import torch
    from PIL import Image

    noise = torch.Generator().manual_seed(0)
    if size is not None:
        width, x, height = size.lower().partition("x")
        if not (x and width.isdecimal() and height.isdecimal() and int(width) * int(height)):
            raise UsageError(f"{size!r} is no size.", "Write it as 224x224, width first.")
        if max(int(width), int(height)) > LARGEST:
            raise UsageError(
                f"{size} is more than a network reads.",
                f"Neither side may have more than {LARGEST} pixels.",
            )
        shape = (1, 3, int(height), int(width))
    elif model.preprocess is not None:
        tensor = model.prepare(Image.new("RGB", (320, 240), (127, 127, 127)))[0].tensor
        shape = (1, *tensor.shape)
    else:
        raise UsageError(
            "The model has no preprocess that tells the size of its input.",
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
