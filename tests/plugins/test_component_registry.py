"""The registry: who offers what, by which name it is found, and what is kept of a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from cvx_core.errors import ConflictError, PluginError, UnknownComponentError
from cvx_core.plugins.component import Component, Kind
from cvx_core.plugins.component_registry import PROGRAM, Registry
from cvx_core.plugins.hookspecs import hookimpl


def component(name: str = "grid", target: Any = dict) -> Component:
    return Component(name, f"The {name}.", target)


def plugin(*components: Any, hook: str = "cvx_explainers") -> SimpleNamespace:
    def answer() -> Iterable[Any]:
        yield from components

    answer.__name__ = hook
    return SimpleNamespace(**{hook: hookimpl(answer)})


def raising(error: BaseException, *before: Component) -> Callable[[], Iterable[Component]]:
    def answer() -> Iterable[Component]:
        yield from before
        raise error

    return answer


@pytest.fixture
def registry() -> Registry:
    return Registry(strict=False)


def test_a_registered_component_is_found_by_its_name(registry: Registry) -> None:
    offered = component()
    registry.register(plugin(offered), "cvx-one:main")
    assert registry.find("explainer", "grid") is offered
    assert registry.names("explainer") == ["grid"]
    assert [o.owner for o in registry.offers("explainer")] == ["cvx-one:main"]
    assert registry.failures == []


def test_names_of_different_kinds_do_not_meet(registry: Registry) -> None:
    registry.register(plugin(component("json")), "one:main")
    registry.register(plugin(component("json"), hook="cvx_renderers"), "two:main")
    assert registry.find("explainer", "json") is not registry.find("renderer", "json")


def test_one_name_from_two_distributions_stays_listed_and_raises_when_used(
    registry: Registry,
) -> None:
    first, second = component(), component()
    registry.register(plugin(first), "cvx-one:main")
    registry.register(plugin(second), "cvx-two:main")
    assert [o.distribution for o in registry.offers("explainer")] == ["cvx-one", "cvx-two"]
    with pytest.raises(ConflictError, match="cvx-one and by cvx-two") as caught:
        registry.find("explainer", "grid")
    assert "'grid@cvx-one' or 'grid@cvx-two'" in caught.value.hint
    assert registry.find("explainer", "grid@cvx-one") is first
    assert registry.find("explainer", "grid@cvx-two") is second


def test_offers_are_sorted_by_name_and_then_by_owner_whoever_comes_first(
    registry: Registry,
) -> None:
    registry.register(plugin(component("grid"), component("energy")), "cvx-two:main")
    registry.register(plugin(component("grid")), "cvx-one:main")
    offers = [(o.component.name, o.owner) for o in registry.offers("explainer")]
    assert offers == [
        ("energy", "cvx-two:main"),
        ("grid", "cvx-one:main"),
        ("grid", "cvx-two:main"),
    ]
    assert registry.names("explainer") == ["energy", "grid"]
    with pytest.raises(ConflictError, match="by cvx-one and by cvx-two"):
        registry.find("explainer", "grid")


@pytest.mark.parametrize("spelling", ["cvx-two", "CVX_Two", "cvx.two", "cvx-two:main"])
def test_a_distribution_is_named_in_any_spelling_of_package_indexes(
    registry: Registry, spelling: str
) -> None:
    registry.register(plugin(component()), "cvx-one:main")
    registry.register(plugin(wanted := component()), "cvx-two:main")
    assert registry.find("explainer", f"grid@{spelling}") is wanted


def test_an_unknown_name_suggests_the_nearest_and_lists_what_is_there(registry: Registry) -> None:
    registry.register(plugin(component("class-attention"), component("energy")), "one:main")
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'class-attention'\?"):
        registry.find("explainer", "class-atention")
    with pytest.raises(UnknownComponentError, match="Installed: class-attention, energy"):
        registry.find("explainer", "zzz")
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'energy@one'\?"):
        registry.find("explainer", "energy@onne")


def test_what_begins_with_an_unknown_name_is_suggested_first_as_it_was_announced(
    registry: Registry,
) -> None:
    names = ("rule-zeta", "rule-alpha", "a-rule", "ruler")
    registry.register(plugin(*map(component, names)), "one:main")
    wanted = r"Did you mean 'rule-zeta' or 'rule-alpha' or 'ruler'\?"
    with pytest.raises(UnknownComponentError, match=wanted):
        registry.find("explainer", "rule")


def test_the_error_for_a_missing_name_carries_the_plugin_that_failed(registry: Registry) -> None:
    cause = ImportError("no module named nowhere")
    registry.fail("cvx-broken:main", cause)
    with pytest.raises(UnknownComponentError, match="cvx-broken:main failed to load") as caught:
        registry.find("explainer", "grid")
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(3), RecursionError(), ImportError("gone"), BaseException("odd")],
)
def test_a_hook_that_fails_halfway_leaves_none_of_its_components(
    registry: Registry, error: BaseException
) -> None:
    bad = SimpleNamespace(
        cvx_explainers=hookimpl(raising(error, component("half")), specname="cvx_explainers"),
        cvx_renderers=plugin(component("whole"), hook="cvx_renderers").cvx_renderers,
    )
    registry.register(plugin(component("before")), "one:main")
    registry.register(bad, "bad:main")
    registry.register(plugin(component("after")), "two:main")
    assert registry.names("explainer") == ["after", "before"]
    assert registry.names("renderer") == []
    assert [(f.owner, f.error) for f in registry.failures] == [("bad:main", error)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("a text", "returned 'a text', a str"),
        (("grid", "summary", "a.b:C"), "a tuple"),
        (None, "returned None, a NoneType"),
    ],
)
def test_a_record_of_another_type_is_refused_by_name(
    registry: Registry, answer: Any, says: str
) -> None:
    registry.register(plugin(component("good"), answer), "bad:main")
    assert registry.names("explainer") == []
    assert says in registry.failures[0].reason


def test_a_hook_that_nothing_defines_is_noted_and_the_others_are_heard(registry: Registry) -> None:
    both = plugin(component(), hook="cvx_exploders")
    both.cvx_renderers = plugin(component("json"), hook="cvx_renderers").cvx_renderers
    registry.register(both, "some:main")
    assert registry.unknown_hooks == [("some:main", "cvx_exploders")]
    assert registry.failures == []
    assert registry.names("renderer") == ["json"]
    with pytest.raises(UnknownComponentError, match="defines the hook cvx_exploders of some:main"):
        registry.find("exploder", "grid")


def test_a_strict_registry_refuses_a_hook_that_nothing_defines() -> None:
    strict = Registry(strict=True)
    strict.register(plugin(component(), hook="cvx_explainer"), "some:main")
    with pytest.raises(PluginError, match="some:main implements cvx_explainer") as caught:
        strict.check_hooks()
    assert "Did you mean 'cvx_explainers'" in caught.value.hint


QUEUE = Kind("queue", "cvx_queues")


def test_a_plugin_brings_a_kind_and_offers_components_of_it(registry: Registry) -> None:
    own = plugin(QUEUE, hook="cvx_kinds")
    own.cvx_queues = plugin(component("fast"), hook="cvx_queues").cvx_queues
    registry.register(own, "bringer:main")
    assert registry.kinds["queue"] == QUEUE
    assert registry.names("queue") == ["fast"]
    assert registry.failures == registry.unknown_hooks == []


@pytest.mark.parametrize("bringer_first", [True, False])
def test_a_kind_of_one_plugin_is_offered_by_another_in_either_order(
    registry: Registry, bringer_first: bool
) -> None:
    bringer = (plugin(QUEUE, hook="cvx_kinds"), "bringer:main")
    other = (plugin(offered := component("slow"), hook="cvx_queues"), "other:main")
    for one in (bringer, other) if bringer_first else (other, bringer):
        registry.register(*one)
    assert registry.find("queue", "slow") is offered
    assert [offer.owner for offer in registry.offers("queue")] == ["other:main"]
    assert registry.failures == registry.unknown_hooks == []


def test_a_plugin_that_waited_for_a_kind_and_then_fails_costs_itself_alone(
    registry: Registry,
) -> None:
    cause = ValueError("no")
    bad = SimpleNamespace(
        cvx_queues=hookimpl(raising(cause), specname="cvx_queues"),
        cvx_explainers=plugin(component()).cvx_explainers,
    )
    registry.register(bad, "bad:main")
    registry.register(plugin(component("good"), hook="cvx_queues"), "good:main")
    assert registry.names("explainer") == ["grid"]
    registry.register(plugin(QUEUE, hook="cvx_kinds"), "bringer:main")
    assert registry.names("explainer") == []
    assert registry.names("queue") == ["good"]
    assert [(f.owner, f.error) for f in registry.failures] == [("bad:main", cause)]


def test_a_kind_of_a_plugin_that_fails_is_not_kept(registry: Registry) -> None:
    bad = plugin(QUEUE, hook="cvx_kinds")
    bad.cvx_renderers = hookimpl(raising(ValueError("no")), specname="cvx_renderers")
    registry.register(bad, "bad:main")
    assert "queue" not in registry.kinds
    registry.register(plugin(QUEUE, hook="cvx_kinds"), "good:main")
    assert registry.kinds["queue"] == QUEUE


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Kind("queue", "cvx_renderers"), "a hook 'cvx_renderers' already"),
        (Kind("explainer", "cvx_queues"), "a kind 'explainer'"),
        (component(), "Kind records"),
    ],
)
def test_a_kind_that_is_taken_or_no_record_fails_its_plugin(
    registry: Registry, kind: Any, says: str
) -> None:
    registry.register(plugin(kind, hook="cvx_kinds"), "bad:main")
    assert says in registry.failures[0].reason


def test_a_kind_brought_twice_fails_the_second_plugin(registry: Registry) -> None:
    registry.register(plugin(QUEUE, hook="cvx_kinds"), "one:main")
    registry.register(plugin(QUEUE, hook="cvx_kinds"), "two:main")
    assert [failure.owner for failure in registry.failures] == ["two:main"]


@pytest.mark.parametrize("hook", ["", "queues", "cvx_Queues", "cvx_a b"])
def test_a_hook_that_could_not_be_implemented_is_refused(hook: str) -> None:
    with pytest.raises(PluginError, match="must be called cvx_"):
        Kind("queue", hook)


def test_a_plugin_without_hooks_fails_with_the_way_out(registry: Registry) -> None:
    registry.register(SimpleNamespace(), "bad:main")
    assert "Mark its functions with @cvx_core.hookimpl" in registry.failures[0].reason


def test_a_plugin_that_offers_one_name_twice_fails(registry: Registry) -> None:
    registry.register(plugin(component(), component()), "bad:main")
    assert "'grid' twice" in registry.failures[0].reason
    assert registry.names("explainer") == []


def test_a_strict_registry_raises_what_others_note() -> None:
    cause = ValueError("no")
    bad = SimpleNamespace(cvx_explainers=hookimpl(raising(cause), specname="cvx_explainers"))
    with pytest.raises(PluginError, match=r"bad:main failed: ValueError: no") as caught:
        Registry(strict=True).register(bad, "bad:main")
    assert caught.value.__cause__ is cause


def test_an_exception_whose_text_raises_is_still_reported(registry: Registry) -> None:
    class NastyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    registry.fail("bad:main", NastyError())
    assert registry.failures[0].reason == "NastyError: (its message can't be read)"


def test_a_reason_is_one_line(registry: Registry) -> None:
    registry.fail("bad:main", ValueError("first\nsecond"))
    assert registry.failures[0].reason == "ValueError: first second"


def test_a_component_of_the_program_takes_the_place_of_others_only_when_asked(
    registry: Registry,
) -> None:
    registry.register(plugin(component()), "cvx-one:main")
    mine = component()
    with pytest.raises(ConflictError, match="already offered by cvx-one:main"):
        registry.add("explainer", mine)
    registry.add("explainer", mine, replace=True)
    assert registry.find("explainer", "grid") is mine
    assert [o.owner for o in registry.offers("explainer")] == [PROGRAM]


@pytest.mark.parametrize("name", ["", "Grid", "grid cam", "grid:cam", "-grid", "grid@one", "a\nb"])
def test_a_component_name_that_could_not_be_typed_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="Invalid component name"):
        Component(name, "", "a:B")


@pytest.mark.parametrize("name", ["grid", "grad-cam", "grad-cam++", "cam2", "score_cam"])
def test_component_names_of_the_field_are_taken(name: str) -> None:
    assert Component(name, "", "a:B").name == name


@pytest.mark.parametrize("target", ["", "a.b", "a.b:", ":C", "a b:C", "a/b.py:C"])
def test_a_component_target_of_another_form_is_refused(target: str) -> None:
    with pytest.raises(PluginError, match=r"package\.module:Object"):
        Component("grid", "", target)


def test_a_component_loads_what_its_target_names() -> None:
    assert Component("grid", "", "collections:abc.Mapping").load().__name__ == "Mapping"
    assert Component("grid", "", dict).load() is dict


@pytest.mark.parametrize("target", ["no_such_module_of_ours:X", "collections:Nothing"])
def test_a_component_that_can_not_be_imported_is_a_plugin_error_with_its_cause(
    target: str,
) -> None:
    with pytest.raises(PluginError, match="could not be loaded") as caught:
        Component("grid", "", target).load()
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("spelled", ["GradGrid", "grad_grid", "GRAD-GRID", "gradgrid", "Grad Grid"])
def test_capitals_hyphens_and_underscores_do_not_count(registry: Registry, spelled: str) -> None:
    offered, plus = component("grad-grid"), component("grad-grid-plus-plus")
    registry.register(plugin(offered, plus), "cvx-one:main")
    assert registry.find("explainer", spelled) is offered
    assert registry.find("explainer", f"{spelled}@cvx-one") is offered
    assert registry.find("explainer", f"{spelled}++") is plus


def test_a_spelling_of_two_components_is_that_of_none(registry: Registry) -> None:
    one, other = component("a-bc"), component("ab-c")
    registry.register(plugin(one, other), "cvx-one:main")
    assert registry.find("explainer", "a-bc") is one
    with pytest.raises(UnknownComponentError):
        registry.find("explainer", "ABC")
