"""Explainers of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl

_PROPAGATION = (
    ("lrp-epsilon", "Relevance by the epsilon rule (Bach 2015)", "lrp.composites:LrpEpsilon"),
    ("lrp-gamma", "Relevance by the gamma rule (Montavon 2019)", "lrp.composites:LrpGamma"),
    ("lrp-z-plus", "Relevance by the z-plus rule (Montavon 2017)", "lrp.composites:LrpZPlus"),
    (
        "lrp-alpha-beta",
        "Relevance by the alpha-beta rule (Bach 2015)",
        "lrp.composites:LrpAlphaBeta",
    ),
    (
        "lrp-flat",
        "Flat in the first layer, epsilon above (Lapuschkin 2019)",
        "lrp.composites:LrpFlat",
    ),
    ("epsilon-plus", "z-plus in convolutions, epsilon elsewhere", "lrp.composites:EpsilonPlus"),
    (
        "epsilon-plus-flat",
        "epsilon-plus, flat in the first layer",
        "lrp.composites:EpsilonPlusFlat",
    ),
    (
        "epsilon-alpha2-beta1",
        "alpha-beta in convolutions, epsilon elsewhere",
        "lrp.composites:EpsilonAlpha2Beta1",
    ),
    (
        "epsilon-alpha2-beta1-flat",
        "epsilon-alpha2-beta1, flat in the first layer",
        "lrp.composites:EpsilonAlpha2Beta1Flat",
    ),
    (
        "epsilon-gamma-box",
        "z-box first, gamma in convolutions, epsilon above (Montavon 2019)",
        "lrp.composites:EpsilonGammaBox",
    ),
    (
        "deep-lift",
        "Contributions to the difference from a baseline (Shrikumar 2017)",
        "deep_lift.explainer:DeepLift",
    ),
    (
        "excitation-backprop",
        "Winning probability of neurons (Zhang 2016)",
        "lrp.excitation:ExcitationBackprop",
    ),
    (
        "contrastive-excitation-backprop",
        "Winning probability for the class less that against it (Zhang 2016)",
        "lrp.excitation:ContrastiveExcitationBackprop",
    ),
    ("attn-lrp", "Relevance through attention (Achtibat 2024)", "lrp.transformers:AttnLrp"),
    (
        "activation-patching",
        "Effect of replacing one position's activation by a baseline's (Meng 2022)",
        "intervention:ActivationPatching",
    ),
    (
        "cp-lrp",
        "Relevance through values, attention frozen (Ali 2022)",
        "lrp.transformers:CpLrp",
    ),
)


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce activation error and the other propagation methods."""
    yield Component(
        "activation-error",
        "Activation error (relevance of the error): contributions to a score, conserved",
        "cvx_activation_error.explainer:ActivationError",
    )
    for name, summary, target in _PROPAGATION:
        yield Component(name, summary, f"cvx_activation_error.{target}")
