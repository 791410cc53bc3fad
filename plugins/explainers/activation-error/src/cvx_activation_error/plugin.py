"""Explainers of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl
from cvx_core.plugins import component_name

_PROPAGATION = {
    "lrp.composites:LrpEpsilon": "LRP, epsilon rule (Bach 2015)",
    "lrp.composites:LrpGamma": "LRP, gamma rule (Montavon 2019)",
    "lrp.composites:LrpZPlus": "LRP, z-plus rule (Montavon 2017)",
    "lrp.composites:LrpAlphaBeta": "LRP, alpha-beta rule (Bach 2015)",
    "lrp.composites:LrpFlat": (
        "LRP, flat rule in the first layer, epsilon rule above (Lapuschkin 2019)"
    ),
    "lrp.composites:EpsilonPlus": "LRP, z-plus rule in convolutions, epsilon rule elsewhere",
    "lrp.composites:EpsilonPlusFlat": "LRP, as epsilon-plus with the flat rule in the first layer",
    "lrp.composites:EpsilonAlpha2Beta1": (
        "LRP, alpha-beta rule in convolutions, epsilon rule elsewhere"
    ),
    "lrp.composites:EpsilonAlpha2Beta1Flat": (
        "LRP, as epsilon-alpha2-beta1 with the flat rule in the first layer"
    ),
    "lrp.composites:EpsilonGammaBox": (
        "LRP, z-box rule first, gamma rule in convolutions, epsilon rule above (Montavon 2019)"
    ),
    "deep_lift.explainer:DeepLift": (
        "DeepLIFT: contributions to the difference from a baseline (Shrikumar 2017)"
    ),
    "lrp.excitation:ExcitationBackprop": (
        "Excitation backpropagation: winning probability of neurons (Zhang 2016)"
    ),
    "lrp.excitation:ContrastiveExcitationBackprop": (
        "Contrastive excitation backpropagation: probability for the class minus "
        "probability against it (Zhang 2016)"
    ),
    "lrp.transformers:AttnLrp": (
        "AttnLRP: layer-wise relevance propagation through attention (Achtibat 2024)"
    ),
    "intervention:ActivationPatching": (
        "Activation patching: effect of replacing the activation of a position (Meng 2022)"
    ),
    "lrp.transformers:CpLrp": "CP-LRP: relevance propagation with frozen attention (Ali 2022)",
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
