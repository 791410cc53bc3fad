"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl
from cvx_core.plugins import component_name

_METHODS = {
    "explainer:LocationAttention": "Where the model looks at all, and what one position reads",
    "layer_maps:Energy": "Sum over a layer's channels of |activation|^p (Zagoruyko 2017)",
    "layer_maps:EigenCAM": "A layer's activations along their leading direction (Muhammad 2020)",
    "attention_rollout:AttentionRollout": (
        "Attention multiplied through a transformer's layers (Abnar 2020)"
    ),
    "receptive_field.input_influence:Reads": "What one position of a layer reads from the image",
    "receptive_field.forward_influence:Affects": (
        "Which cells of a layer one patch of the image affects"
    ),
    "receptive_field.effective_field:EffectiveReceptiveField": (
        "What the centre cell of a layer really uses (Luo 2016)"
    ),
    "perturbation.occlusion:Occlusion": (
        "What the prediction loses when a window is covered (Zeiler 2014)"
    ),
    "perturbation.rise:RISE": "How much keeping a pixel raises the score (Petsiuk 2018)",
}


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce the family first, then its methods; each is named as its class."""
    for target, summary in _METHODS.items():
        name = component_name(target.partition(":")[2])
        yield Component(name, summary, f"cvx_location_attention.{target}")
