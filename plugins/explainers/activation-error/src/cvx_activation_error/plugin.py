"""Explainers of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl
from cvx_core.plugins import component_name

_PROPAGATION = {
    "lrp.composites:LrpEpsilon": "Relevance by the epsilon rule (Bach 2015)",
    "lrp.composites:LrpGamma": "Relevance by the gamma rule (Montavon 2019)",
    "lrp.composites:LrpZPlus": "Relevance by the z-plus rule (Montavon 2017)",
    "lrp.composites:LrpAlphaBeta": "Relevance by the alpha-beta rule (Bach 2015)",
    "lrp.composites:LrpFlat": "Flat in the first layer, epsilon above (Lapuschkin 2019)",
    "lrp.composites:EpsilonPlus": "z-plus in convolutions, epsilon elsewhere",
    "lrp.composites:EpsilonPlusFlat": "epsilon-plus, flat in the first layer",
    "lrp.composites:EpsilonAlpha2Beta1": "alpha-beta in convolutions, epsilon elsewhere",
    "lrp.composites:EpsilonAlpha2Beta1Flat": "epsilon-alpha2-beta1, flat in the first layer",
    "lrp.composites:EpsilonGammaBox": (
        "z-box first, gamma in convolutions, epsilon above (Montavon 2019)"
    ),
    "deep_lift.explainer:DeepLift": (
        "Contributions to the difference from a baseline (Shrikumar 2017)"
    ),
    "lrp.excitation:ExcitationBackprop": "Winning probability of neurons (Zhang 2016)",
    "lrp.excitation:ContrastiveExcitationBackprop": (
        "Winning probability for the class less that against it (Zhang 2016)"
    ),
    "lrp.transformers:AttnLrp": "Relevance through attention (Achtibat 2024)",
    "intervention:ActivationPatching": (
        "Effect of replacing one position's activation by a baseline's (Meng 2022)"
    ),
    "lrp.transformers:CpLrp": "Relevance through values, attention frozen (Ali 2022)",
}


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce activation error and the other propagation methods, named as their classes."""
    yield Component(
        "activation-error",
        "Activation error (relevance of the error): contributions to a score, conserved",
        "cvx_activation_error.explainer:ActivationError",
    )
    for target, summary in _PROPAGATION.items():
        name = component_name(target.partition(":")[2])
        yield Component(name, summary, f"cvx_activation_error.{target}")
