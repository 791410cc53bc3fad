"""Layer profile of one image as a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvx_activation_error.explainer import ActivationError
from cvx_activation_error.profile import LayerProfile
from cvx_core import Margin, OptionError, Target, VisionModel
from cvx_core.tasks import ClassRef


def layer_profile(
    model: VisionModel,
    image: Any,
    target: Target | None = None,
    label: ClassRef | None = None,
    layers: Sequence[str] | None = None,
) -> LayerProfile:
    """Return how a score is made up at each layer of a network.

    With the gates held the score is the same at every layer; what differs is how much of it the
    cells carry, and how much biases, class tokens and other constants. Read from the pixels on, the
    profile of a margin shows at which depth the cells of the wrong class overtake those of the
    true one.

    Parameters
    ----------
    model, label
        As for `Explainer.explain`.
    image
        One image.
    target
        The request; None asks the margin, which requirements a label.
    layers
        Names of layers with a grid, ``"input"`` for the pixels; None takes a dozen at most: the
        pixels, and from every grid size some that all paths to the output pass.

    Raises
    ------
    OptionError
        If there are several images.
    LayerError
        If the model has no such layer, or it has no grid.

    Examples
    --------
    >>> from cvx_core import load_model
    >>> profile = layer_profile(load_model("embedded"), "photo.jpg",
    ...                         label="screwdriver")                        # doctest: +SKIP
    >>> [(row.layer, row.cells_for, row.cells_against) for row in profile.rows]  # doctest: +SKIP
    """
    chosen = True if layers is None else tuple(layers)
    explanations = ActivationError(profile=chosen).explain(
        model, image, Margin() if target is None else target, label
    )
    if len(explanations) != 1:
        raise OptionError(
            f"A profile needs one explanation, got {len(explanations)}.",
            "Pass one image and one target.",
        )
    return LayerProfile.of(explanations[0])
