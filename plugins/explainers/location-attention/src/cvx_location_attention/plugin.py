"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce the family first, then its methods under the names of their papers."""
    for name, summary, target in _OFFERED:
        yield Component(name, summary, f"cvx_location_attention.{target}")


_OFFERED = (
    (
        "location-attention",
        "Where the model looks at all, and what one position reads",
        "explainer:LocationAttention",
    ),
    (
        "energy",
        "Sum over a layer's channels of |activation|^p (Zagoruyko 2017)",
        "layer_maps:Energy",
    ),
    (
        "eigen-cam",
        "A layer's activations along their leading direction (Muhammad 2020)",
        "layer_maps:EigenCAM",
    ),
    (
        "attention-rollout",
        "Attention multiplied through a transformer's layers (Abnar 2020)",
        "attention_rollout:AttentionRollout",
    ),
    (
        "reads",
        "What one position of a layer reads from the image",
        "receptive_field.input_influence:Reads",
    ),
    (
        "affects",
        "Which cells of a layer one patch of the image affects",
        "receptive_field.forward_influence:Affects",
    ),
    (
        "effective-receptive-field",
        "What the centre cell of a layer really uses (Luo 2016)",
        "receptive_field.effective_field:EffectiveReceptiveField",
    ),
    (
        "occlusion",
        "What the prediction loses when a window is covered (Zeiler 2014)",
        "perturbation.occlusion:Occlusion",
    ),
    ("rise", "How much keeping a pixel raises the score (Petsiuk 2018)", "perturbation.rise:RISE"),
)
