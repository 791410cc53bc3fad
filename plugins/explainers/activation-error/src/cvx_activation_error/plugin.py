"""What this plugin offers."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl

_PROPAGATION = {
    "lrp-epsilon": ("Relevance by the epsilon rule (Bach 2015)", "lrp:LrpEpsilon"),
    "lrp-gamma": ("Relevance by the gamma rule (Montavon 2019)", "lrp:LrpGamma"),
    "lrp-z-plus": ("Relevance by the z-plus rule (Montavon 2017)", "lrp:LrpZPlus"),
    "lrp-alpha-beta": ("Relevance by the alpha-beta rule (Bach 2015)", "lrp:LrpAlphaBeta"),
    "lrp-flat": ("Flat in the first layer, epsilon above (Lapuschkin 2019)", "lrp:LrpFlat"),
    "epsilon-plus": ("z-plus in convolutions, epsilon elsewhere", "lrp:EpsilonPlus"),
    "epsilon-plus-flat": ("epsilon-plus, flat in the first layer", "lrp:EpsilonPlusFlat"),
    "epsilon-alpha2-beta1": (
        "alpha-beta in convolutions, epsilon elsewhere",
        "lrp:EpsilonAlpha2Beta1",
    ),
    "epsilon-alpha2-beta1-flat": (
        "epsilon-alpha2-beta1, flat in the first layer",
        "lrp:EpsilonAlpha2Beta1Flat",
    ),
    "epsilon-gamma-box": (
        "z-box first, gamma in convolutions, epsilon above (Montavon 2019)",
        "lrp:EpsilonGammaBox",
    ),
    "deep-lift": ("What differs from a reference image (Shrikumar 2017)", "others:DeepLift"),
    "excitation-backprop": ("Which neurons win (Zhang 2016)", "others:ExcitationBackprop"),
    "contrastive-excitation-backprop": (
        "Which neurons win for the class and not against it (Zhang 2016)",
        "others:ContrastiveExcitationBackprop",
    ),
    "attn-lrp": ("Relevance through attention (Achtibat 2024)", "others:AttnLrp"),
    "activation-patching": (
        "What the answer loses when a cell is as in a reference (Meng 2022)",
        "patching:ActivationPatching",
    ),
    "cp-lrp": ("Relevance through values, attention held (Ali 2022)", "others:CpLrp"),
}


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce activation-based error propagation and the other rules of propagation."""
    yield Component(
        "activation-error",
        "The error propagated back through the activations, conserved",
        "cvx_activation_error.explainer:ActivationError",
    )
    for name, (summary, target) in _PROPAGATION.items():
        yield Component(name, summary, f"cvx_activation_error.{target}")
