"""Kinds of plugins that can be written, with what differs between their packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PluginKind:
    """One kind of component.

    Attributes
    ----------
    hook
        The hook that announces it.
    module
        Name of the module that holds it.
    thing
        What messages and documentation call it.
    summary
        What the component in the template does, in one line.
    usage
        Command that uses it; ``{name}`` and ``{package}`` are filled in.
    dependencies
        Requirements of the package, beside cvx-core.
    test_dependencies
        Requirements of its tests, beside pytest.
    """

    hook: str
    module: str
    thing: str
    summary: str
    usage: str
    dependencies: tuple[str, ...] = ("torch>=2.10",)
    test_dependencies: tuple[str, ...] = ()


KINDS = {
    "explainer": PluginKind(
        "cvx_explainers",
        "explainer",
        "explainer",
        "Contribution of each pixel to the score: input times gradient.",
        "cvx explain photo.jpg -e {name} -o maps",
    ),
    "renderer": PluginKind(
        "cvx_renderers",
        "renderer",
        "renderer",
        "Values of the maps as comma-separated text.",
        "cvx explain photo.jpg -r {name} -o maps",
        (),
    ),
    "model": PluginKind(
        "cvx_model_sources",
        "source",
        "model source",
        "Models of our laboratory.",
        "cvx explain photo.jpg -m {name}:tiny -o maps",
    ),
    "task": PluginKind(
        "cvx_tasks",
        "task",
        "task",
        "A grade from 0 to K, by the logits of being above each grade.",
        "cvx explain photo.jpg -m {package}.sample:model --label 3 -o maps",
        ("numpy>=2", "torch>=2.10"),
        ("cvx-core[standard]",),
    ),
    "command": PluginKind(
        "cvx_commands",
        "command",
        "command",
        "Print the most probable classes of images.",
        "cvx {name} photo.jpg",
        ("click>=8.2",),
    ),
    "engine": PluginKind(
        "cvx_engines",
        "engine",
        "engine",
        "Runs one block of images after the other.",
        "cvx diagnose photos --engine {name} -o diagnosis",
        ("cvx-engine>=0.1,<1",),
    ),
}
"""The kinds by the word that the command takes."""
