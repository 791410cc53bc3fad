"""What is measured of one network: cvx's four methods, and the rivals' beside them."""

from __future__ import annotations

import copy
import resource
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.errors import CvxError
from cvx_core.recording import Layout
from cvx_core.recording.layer_selection.selection import find_last_grid
from cvx_core.testing.kits.explainers import assert_state, state_of
from zoo import rivals
from zoo.networks import Network, networks

METHODS = ("class-attention", "location-attention", "gradient-error", "activation-error")
SIDES = {"float32": 128, "float64": 64}
"""Sides of the image, in pixels, where a network takes it: depthwise convolutions in double
precision take minutes on a processor."""

LARGEST_BESIDE = 100_000_000
"""Parameters up to which other libraries are asked too: each gets a copy of the network."""

LIMITS = {"float32": 1e-4, "float64": 1e-9}


def measure(network: Network, *, beside: bool = True) -> dict[str, Any]:
    """Return everything that is measured of a network, as JSON values."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    np.random.seed(0)
    started = time.perf_counter()
    net, shape = network.build()
    before = state_of(net)
    model = cvx.VisionModel(net, name=network.id)
    both = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    x = _smaller(model, both[:1], SIDES["float32"])
    found: dict[str, Any] = {
        "network": network.id,
        "parameters": sum(p.numel() for p in net.parameters()),
        "input": list(x.shape[1:]),
        "family": f"{type(net).__module__}.{type(net).__name__}",
    }
    logits = model.logits(both[..., : x.shape[2], : x.shape[3]])
    found["answers_differ"] = bool((logits[0] - logits[1]).abs().max() > 1e-6 * logits.abs().max())
    # The least likely class is certainly wrong, so there is an error to attribute.
    label = int(logits[0].argmin())
    found["methods"] = {name: _method(model, x, name, label) for name in METHODS}
    found["input_conservation"] = _conserved(model, x, label, layer="input")
    found["left_as_found"] = _unchanged(before, net)
    del before  # as large as the network
    found["seconds"] = time.perf_counter() - started
    if beside and found["parameters"] <= LARGEST_BESIDE:
        module = _module_of_the_place(model, x)
        predicted = int(logits[0].argmax())
        found["rivals"] = {
            name: rivals.ask(name, net, x, module, predicted) for name in rivals.RIVALS
        }
    found["float64"] = _in_double(model, x, label)
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def send_measured(pipe: Connection, name: str, beside: bool) -> None:
    """Measure a network in a process of its own and send what was found."""
    [network] = [one for one in networks() if one.id == name]
    try:
        pipe.send(measure(network, beside=beside))
    except Exception as error:  # the boundary of one network: its failure is a finding
        pipe.send({"network": name, "failure": f"{type(error).__name__}: {error}"[:500]})


def problems(found: dict[str, Any]) -> list[str]:
    """Return what is wrong with a measurement, in words; nothing for a network that is covered."""
    said = [] if found["left_as_found"] is True else [f"changed: {found['left_as_found']}"]
    if not found["answers_differ"]:
        said.append("the network answers the same whatever it sees")
    for name, one in found["methods"].items():
        if "error" in one:
            said.append(f"{name}: {one['error']}")
            continue
        if not one["finite"]:
            said.append(f"{name}: not finite")
        if one["constant"]:
            said.append(f"{name}: constant")
        if one["shape"] != one["grid"]:
            said.append(f"{name}: {one['shape']} on a grid of {one['grid']}")
    residuals = {
        ("float32", "layer"): found["methods"]["activation-error"].get("residual"),
        ("float32", "input"): found["input_conservation"].get("residual"),
        ("float64", "layer"): found["float64"].get("layer"),
        ("float64", "input"): found["float64"].get("input"),
    }
    for (dtype, place), residual in residuals.items():
        if residual is None:
            said.append(f"no residual at the {place} in {dtype}")
        elif not residual <= LIMITS[dtype]:
            said.append(f"residual {residual:.1e} at the {place} in {dtype}")
    return said


def _method(model: cvx.VisionModel, x: Tensor, name: str, label: int) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        [made] = cvx.explain(model, x, name, label=label)
    except CvxError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    values = made.values.astype(np.float64)
    layer = made.provenance.to_dict().get("layer")
    result: dict[str, Any] = {
        "shape": list(values.shape),
        "grid": list(_grid(model, x, layer)),
        "finite": bool(np.isfinite(values).all()),
        "constant": bool(np.ptp(values) <= 1e-6 * np.abs(values).max()),
        "seconds": time.perf_counter() - started,
    }
    if layer:
        result["layer"] = layer
    evidence = made.evidence.to_dict()
    result.update({k: evidence[k] for k in ("residual", "non_pixel_share") if k in evidence})
    return result


def _grid(model: cvx.VisionModel, x: Tensor, layer: str) -> tuple[int, ...]:
    layout = Layout.of(model, x)
    try:
        return layout.find(layer).grid
    except CvxError:  # rollout goes over all the attention layers, whose grid is the tokens'
        return find_last_grid(model, x).grid


def _conserved(model: cvx.VisionModel, x: Tensor, label: int, layer: str) -> dict[str, Any]:
    explainer = cvx.get_explainer("activation-error", rule="frozen", layer=layer)
    try:
        [made] = explainer.explain(model, x, label=label)
    except CvxError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    evidence = made.evidence.to_dict()
    return {key: evidence[key] for key in ("residual", "non_pixel_share")}


def _smaller(model: cvx.VisionModel, x: Tensor, side: int) -> Tensor:
    """Return the corner of an image, or all of it where the network takes no smaller one."""
    corner = x[..., :side, :side]
    if corner.shape == x.shape:
        return x
    # On a copy: some networks (Swin in transformers) adapt themselves to what they were shown last.
    probe = cvx.VisionModel(copy.deepcopy(model.module))
    try:
        probe.logits(torch.cat([corner, corner]))
        find_last_grid(probe, corner)
    except CvxError:
        return x
    return corner


def _in_double(model: cvx.VisionModel, x: Tensor, label: int) -> dict[str, Any]:
    double = model.to(dtype=torch.float64)
    smaller = _smaller(double, x.double(), SIDES["float64"])
    return {
        place: _conserved(double, smaller, label, layer).get("residual")
        for place, layer in (("layer", "auto"), ("input", "input"))
    }


def _unchanged(before: Any, net: nn.Module) -> bool | str:
    try:
        assert_state(before, state_of(net))
    except AssertionError as error:
        return str(error).splitlines()[0][:200]
    return True


def _module_of_the_place(model: cvx.VisionModel, x: Tensor) -> str:
    """Return the name of the module that cvx found, to be given to rivals who need one."""
    try:
        return find_last_grid(model, x).module
    except CvxError:
        return ""
