"""Discovery with plugins that are really installed, most of them badly behaved.

Each plugin is a project of its own, built into a wheel and installed where only a fresh
interpreter sees it.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cvx_core.plugins import discovery
from cvx_core.plugins.component_registry import normal_name
from cvx_core.plugins.entry_points import entry_points

if TYPE_CHECKING:
    from conftest import Environment

GOOD = """
from cvx_core import Component, hookimpl

@hookimpl
def cvx_explainers():
    yield Component("grid", "A good one.", "collections:OrderedDict")
"""

ABOUT = """
import json, sys
from cvx_core.plugins.discovery import registry
found = registry()
print(json.dumps({
    "offers": [[o.component.name, o.owner] for k in ("explainer", "renderer", "command")
               for o in found.offers(k)],
    "failures": {f.owner: f.reason for f in found.failures},
    "unknown hooks": found.unknown_hooks,
    "kinds": list(found.kinds),
    "disabled": found.disabled,
    "incompatible": found.incompatible,
}))
"""

BAD = {
    "broken": ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named"),
    "unparsable": ("def (:", "SyntaxError"),
    "exiting": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "odd": ("class Odd(BaseException): pass\nraise Odd('neither error nor exit')", "Odd: neither"),
    "exiting-hook": (
        "from cvx_core import hookimpl\n@hookimpl\ndef cvx_explainers():\n    raise SystemExit(4)",
        "SystemExit: 4",
    ),
    "halfway": (
        GOOD.replace('"grid"', '"half"') + "    raise RuntimeError('halfway')\n",
        "RuntimeError: halfway",
    ),
    "second-hook": (
        GOOD.replace('"grid"', '"half"') + "@hookimpl\ndef cvx_renderers():\n    return 1 / 0\n",
        "ZeroDivisionError",
    ),
    "wrong-record": (
        "from cvx_core import hookimpl\n"
        "@hookimpl\ndef cvx_explainers():\n    return [('grid', 'text', 'a:b')]",
        "Hooks return cvx_core.Component records",
    ),
    "wrong-name": (
        GOOD.replace('"grid"', '"Not A Name"'),
        "Invalid component name: 'Not A Name'",
    ),
    "with-arguments": (GOOD.replace("cvx_explainers()", "cvx_explainers(config)"), "config"),
    "no-hook": ("x = 1", "implements none of the hooks"),
}


def about(environment: Environment, **variables: str) -> dict[str, Any]:
    found: dict[str, Any] = environment.ask(ABOUT, **variables)
    return found


def test_an_installed_plugin_is_found_with_no_change_to_cvx(environment: Environment) -> None:
    environment.install("cvx-good", "cvx_good", GOOD)
    assert about(environment)["offers"] == [["grid", "cvx-good:main"]]


def test_plugins_are_taken_in_the_order_of_their_names_wherever_they_are_found(
    environment: Environment,
) -> None:
    for name in ("zeta", "alpha", "mu"):
        environment.install(f"cvx-{name}", f"cvx_{name}", "raise RuntimeError")
    wanted = ["cvx-alpha:main", "cvx-mu:main", "cvx-zeta:main"]
    assert list(about(environment)["failures"]) == wanted
    assert about(environment, CVX_DISABLE_PLUGINS="*")["disabled"] == wanted


def test_every_badly_behaved_plugin_costs_itself_alone(environment: Environment) -> None:
    environment.install("cvx-good", "cvx_good", GOOD)
    for name, (code, _) in BAD.items():
        environment.install(f"cvx-{name}", f"bad_{name.replace('-', '_')}", code)
    found = about(environment)
    assert found["offers"] == [["grid", "cvx-good:main"]]
    assert set(found["failures"]) == {f"cvx-{name}:main" for name in BAD}
    for name, (_, reason) in BAD.items():
        assert reason in found["failures"][f"cvx-{name}:main"]


BRINGER = """
from cvx_core import Kind, hookimpl

@hookimpl
def cvx_kinds():
    yield Kind("queue", "cvx_queues")
"""


@pytest.mark.parametrize("name", ["cvx-a-bringer", "cvx-z-bringer"])
def test_a_plugin_offers_a_component_of_a_kind_that_another_brings(
    environment: Environment, name: str
) -> None:
    """Plugins are loaded in the order of their names, so the two names are the two orders."""
    environment.install(name, "bringer", BRINGER)
    environment.install("cvx-m-queue", "queue_plugin", GOOD.replace("cvx_explainers", "cvx_queues"))
    done = environment.python("-m", "cvx_core.cli", "plugins", "--json")
    offers = json.loads(done.stdout)["components"]
    assert [(o["kind"], o["name"], o["distribution"]) for o in offers] == [
        ("queue", "grid", "cvx-m-queue")
    ]
    assert about(environment, CVX_STRICT="1")["unknown hooks"] == []


def test_a_component_of_a_kind_that_nobody_brings_is_noted(environment: Environment) -> None:
    environment.install("cvx-m-queue", "queue_plugin", GOOD.replace("cvx_explainers", "cvx_queues"))
    found = about(environment)
    assert found["unknown hooks"] == [["cvx-m-queue:main", "cvx_queues"]]
    assert found["failures"] == {}
    listed = environment.python("-m", "cvx_core.cli", "plugins").stdout
    assert "not used: cvx-m-queue:main: no installed plugin defines its hook cvx_queues" in listed
    done = environment.run(ABOUT, CVX_STRICT="1")
    assert done.returncode == 1
    assert "implements cvx_queues, a hook that no installed plugin defines" in done.stderr


def test_what_plugins_print_stays_out_of_standard_output(environment: Environment) -> None:
    hook = GOOD.replace("    yield", "    print('in the hook')\n    yield")
    loud = "print('while importing')\n" + hook
    environment.install("cvx-loud", "cvx_loud", loud)
    done = environment.run(
        "from cvx_core.plugins.discovery import registry; registry(); print('data')"
    )
    assert done.stdout == "data\n"
    assert "while importing\nin the hook\n" in done.stderr


def test_a_plugin_that_sleeps_is_not_woken_before_it_is_asked(environment: Environment) -> None:
    asleep = "import pathlib, time\npathlib.Path('woken').touch()\ntime.sleep(0.1)\n" + GOOD
    environment.install("cvx-sleeping", "cvx_sleeping", asleep)
    for arguments in (["-c", "import cvx_core"], ["-m", "cvx_core.cli", "--version"]):
        environment.python(*arguments)
        assert not (environment.folder / "woken").exists()
    assert about(environment, CVX_DISABLE_PLUGINS="cvx-sleeping")["offers"] == []
    assert not (environment.folder / "woken").exists()
    assert about(environment)["offers"] == [["grid", "cvx-sleeping:main"]]
    assert (environment.folder / "woken").exists()


def test_the_error_for_a_name_of_a_broken_plugin_chains_the_reason(
    environment: Environment,
) -> None:
    environment.install("cvx-broken", "cvx_broken", BAD["broken"][0])
    done = environment.run(
        "from cvx_core.plugins.discovery import registry\nregistry().find('explainer', 'grid')"
    )
    assert done.returncode == 1
    assert "No module named 'a_package_that_is_not_there'" in done.stderr
    assert "The above exception was the direct cause" in done.stderr
    assert "The plugin cvx-broken:main failed to load" in done.stderr


@pytest.mark.parametrize("name", ["broken", "exiting", "halfway", "no-hook"])
def test_strict_discovery_raises_with_the_cause(environment: Environment, name: str) -> None:
    environment.install("cvx-good", "cvx_good", GOOD)
    environment.install(f"cvx-{name}", "bad", BAD[name][0])
    done = environment.run(ABOUT, CVX_STRICT="1")
    assert done.returncode == 1
    assert f"PluginError: Plugin cvx-{name}:main failed" in done.stderr
    assert "The above exception was the direct cause" in done.stderr


def test_one_name_from_two_packages_raises_on_use_and_names_both(
    environment: Environment,
) -> None:
    environment.install("cvx-good", "cvx_good", GOOD)
    environment.install("Another_Plugin", "another", GOOD.replace("OrderedDict", "Counter"))
    assert about(environment)["offers"] == [
        ["grid", "another-plugin:main"],
        ["grid", "cvx-good:main"],
    ]
    use = "import json\nfrom cvx_core.plugins.discovery import registry\n"
    done = environment.run(use + "registry().find('explainer', 'grid')")
    assert "offered by another-plugin and by cvx-good" in done.stderr
    assert "'grid@another-plugin' or 'grid@cvx-good'" in done.stderr
    picked = environment.ask(
        use + "print(json.dumps([registry().find('explainer', n).target for n in "
        "('grid@cvx-good', 'grid@Another_Plugin')]))"
    )
    assert picked == ["collections:OrderedDict", "collections:Counter"]


@pytest.mark.parametrize("disabling", ["cvx-broken", "CVX_Broken", "cvx-broken:main", "x, *"])
def test_a_disabled_plugin_is_not_even_imported(environment: Environment, disabling: str) -> None:
    environment.install("cvx-broken", "cvx_broken", BAD["broken"][0])
    found = about(environment, CVX_DISABLE_PLUGINS=disabling, CVX_STRICT="1")
    assert found["disabled"] == ["cvx-broken:main"]
    assert found["failures"] == {}


def test_a_plugin_for_another_version_of_the_interface_is_listed_and_never_run(
    environment: Environment,
) -> None:
    environment.install("cvx-future", "cvx_future", "raise ValueError('run')", "cvx.plugins.v2")
    found = about(environment)
    assert found["incompatible"] == ["cvx-future:main (cvx.plugins.v2)"]
    assert found["failures"] == {}
    assert found["offers"] == []


def test_a_plugin_whose_folder_was_deleted_costs_itself_alone(environment: Environment) -> None:
    environment.install("cvx-good", "cvx_good", GOOD)
    site = environment.install("cvx-gone", "cvx_gone", GOOD)
    shutil.rmtree(site / "cvx_gone")
    found = about(environment)
    assert found["offers"] == [["grid", "cvx-good:main"]]
    assert "cvx_gone" in found["failures"]["cvx-gone:main"]


def test_an_installation_without_its_name_costs_itself_alone(environment: Environment) -> None:
    environment.install("cvx-good", "cvx_good", GOOD)
    site = environment.install("cvx-cut", "cvx_cut", GOOD.replace("grid", "cut"))
    (site / "cvx_cut-1.0.dist-info" / "METADATA").write_text("")
    assert ["grid", "cvx-good:main"] in about(environment)["offers"]


def test_a_plugin_module_with_lazy_attributes_stays_asleep(environment: Environment) -> None:
    lazy = GOOD + "\ndef __getattr__(name):\n    raise RuntimeError('woken by ' + name)\n"
    environment.install("cvx-lazy", "cvx_lazy", lazy)
    found = about(environment)
    assert found["offers"] == [["grid", "cvx-lazy:main"]]
    assert found["failures"] == {}


def test_a_component_that_exits_when_it_is_loaded_is_a_plugin_error(
    environment: Environment,
) -> None:
    site = environment.install("cvx-late", "cvx_late", GOOD.replace("collections", "cvx_late.work"))
    (site / "cvx_late" / "work.py").write_text("print('loading')\nraise SystemExit(5)")
    done = environment.run(
        "from cvx_core.plugins.discovery import registry\n"
        "registry().find('explainer', 'grid').load()"
    )
    assert done.returncode == 1
    assert "'grid' could not be loaded" in done.stderr
    assert done.stdout == ""


def test_a_package_of_the_project_that_is_not_installed_is_found_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wants = ["torch>=2.10", "cvx-aaa>=0.1; extra == 'all'", "cvx-bb-b; extra == 'all'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wants)
    monkeypatch.setattr(discovery, "version_of", lambda name: "1" if name == "cvx-aaa" else "")
    assert discovery.package_of("bb_b") == "cvx-bb-b"
    assert discovery.package_of("aaa") == ""
    assert discovery.package_of("torch") == ""


def test_the_entry_points_are_those_of_importlib_metadata() -> None:
    known = importlib.metadata.entry_points()
    expected = {
        (normal_name(one.dist.name), one.group, one.name, one.value)
        for group in known.groups
        if group.startswith("cvx.plugins.")
        for one in known.select(group=group)
        if one.dist is not None
    }
    assert len(expected) > 20
    assert set(entry_points("cvx.plugins.")) == expected


def test_the_first_of_two_installations_counts_and_damaged_ones_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        "first/My_Own-1.dist-info": (
            "# ours\n[x.a]\none = json:JSONDecoder.decode [extra]\n\n[b]\nno = b"
        ),
        "second/my.own-2.dist-info": "[x.a]\ntwo = json",
        "second/other.egg-info": "[x.b]\n;no = a\nthree=json",
        "second/binary-1.dist-info": "[x.b]\n\udcff = a",
        "second/my_own": "[x.a]\nno = a",
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir(parents=True)
        file = tmp_path / name / "entry_points.txt"
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "second/cut-1.dist-info").mkdir()
    paths = [str(tmp_path / name) for name in ("missing", "first", "second")]
    monkeypatch.setattr(sys, "path", paths)
    first, second = entry_points("x.")
    assert first == ("my-own", "x.a", "one", "json:JSONDecoder.decode [extra]")
    assert (first.owner, first.load()) == ("my-own:one", json.JSONDecoder.decode)
    assert second == ("other", "x.b", "three", "json")
    assert second.load() is json
