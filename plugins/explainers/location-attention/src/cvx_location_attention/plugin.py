"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl
from cvx_core.plugins import component_name

_METHODS = {
    "explainer:LocationAttention": (
        "Contributions to any output, or attention rollout, independent of the class"
    ),
    "layer_maps:Energy": (
        "Activation energy: sum of |activation|^p over the channels (Zagoruyko 2017)"
    ),
    "layer_maps:EigenCAM": (
        "Eigen-CAM: projection of the activations on their first component (Muhammad 2020)"
    ),
    "attention_rollout:AttentionRollout": (
        "Attention rollout: product of the attention matrices of all layers (Abnar 2020)"
    ),
    "class_token_attention:ClassTokenAttention": (
        "Attention of the class token to the patches in the last layer (Caron 2021)"
    ),
    "receptive_field.input_influence:Reads": (
        "Receptive field of one position: gradient of its activation at the input"
    ),
    "receptive_field.forward_influence:Affects": (
        "Influence of an image patch on each position of a layer"
    ),
    "receptive_field.effective_field:EffectiveReceptiveField": (
        "Effective receptive field of the center position of a layer (Luo 2016)"
    ),
    "perturbation.occlusion:Occlusion": (
        "Occlusion: score drop when a window is covered (Zeiler 2014)"
    ),
    "perturbation.rise:RISE": (
        "RISE: mean score of randomly masked images that keep the pixel (Petsiuk 2018)"
    ),
}


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce the family first, then its methods; each is named as its class."""
    for target, summary in _METHODS.items():
        name = component_name(target.partition(":")[2])
        yield Component(name, summary, f"cvx_location_attention.{target}")
