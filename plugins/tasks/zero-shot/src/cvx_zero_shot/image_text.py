"""Image-text models with fixed prompts, as networks from images to similarities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cvx_core import ModelError, VisionModel
from cvx_zero_shot.task import ZeroShot

Tokenize = Callable[[list[str]], Any]
"""From texts to token ids, or to the keyword arguments of a text tower."""


class ImageText(nn.Module):
    """Similarities (B, prompts) of images to prompts, exp(scale) * cosine + bias.

    The text features are computed once. Networks of transformers (``get_image_features``) and of
    open_clip (``encode_image``) are known.
    """

    features: Tensor

    def __init__(self, network: nn.Module, tokens: Any) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            self.register_buffer("features", self._features("text", tokens).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the similarities of images (B, 3, H, W)."""
        network: Any = self.network
        logits: Tensor = network.logit_scale.exp() * self._features("image", x) @ self.features.T
        bias = getattr(network, "logit_bias", None)
        return logits if bias is None else logits + bias

    def _features(self, kind: str, given: Any) -> Tensor:
        name = f"get_{kind}_features"
        method = getattr(self.network, name if hasattr(self.network, name) else f"encode_{kind}")
        found: Any = method(**given) if isinstance(given, Mapping) else method(given)
        return nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1)


def zero_shot_model(
    network: nn.Module,
    tokenize: Tokenize,
    prompts: Sequence[str],
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    *,
    template: str = "{}",
    **arguments: Any,
) -> VisionModel:
    """Return a model whose classes are text prompts.

    Parameters
    ----------
    network
        A CLIP or SigLIP of transformers or open_clip, or one with the same methods. With a
        ``logit_bias`` probabilities are a sigmoid of each prompt, without a softmax over them.
    tokenize
        From texts to token ids (n, length), or to the text tower's keyword arguments.
    prompts
        Names of the classes.
    preprocess
        See `cvx_core.VisionModel`. With it, the similarities are compared with the network's own.
    template
        Text of a class, as in ``"a photo of a {}"``.
    **arguments
        Of `cvx_core.VisionModel`, such as ``name``.

    Raises
    ------
    ModelError
        If there are fewer than two prompts, one is too long, or the network computes its
        similarities in another way.
    """
    texts = [template.replace("{}", prompt) for prompt in prompts]
    if len(set(texts)) < max(2, len(texts)):
        said = f"prompts must be two or more different texts, got {list(prompts)}."
        raise ModelError(said, "Compare 'a photo of a cat' with 'a photo', say.")
    for text in texts:
        if _same(tokenize([text]), tokenize([f"{text} a"])):
            said = f"The prompt is longer than the network reads: {text[:200]!r}."
            raise ModelError(said, "Shorten it.")
    tokens = tokenize(texts)
    own = isinstance(tokens, Mapping) or hasattr(network, "get_logits") or preprocess is None
    other = not (own and hasattr(network, "logit_scale"))
    module = ImageText(network.eval(), tokens)
    if preprocess is not None and not other:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        image = preprocess(Image.fromarray(noise))[None].to(module.features)
        with torch.no_grad():
            other = not torch.allclose(module(image), _own(network, image, tokens), 1e-3, 1e-3)
    if other:
        raise ModelError(
            f"{type(network).__name__} computes its similarities in another way.",
            "Return them from a module of your own, with task='zero-shot': -m file.py:FACTORY.",
        )
    bias = getattr(network, "logit_bias", None) is not None
    said = "sigmoid of each prompt" if bias else "softmax over the prompts"
    arguments["details"] = {**arguments.get("details", {}), "probability": said, "texts": texts}
    task = ZeroShot("sigmoid" if bias else "softmax")
    return VisionModel(module, preprocess, prompts, task, activation="none", **arguments)


def _same(a: Any, b: Any) -> bool:
    values = ([*one.values()] if isinstance(one, Mapping) else [one] for one in (a, b))
    return all(x.shape == y.shape and bool((x == y).all()) for x, y in zip(*values, strict=True))


def _own(network: Any, image: Tensor, tokens: Any) -> Tensor:
    if isinstance(tokens, Mapping):
        found: Tensor = network(**tokens, pixel_values=image).logits_per_image
        return found
    logits: Tensor = network.get_logits(image, tokens)[0]
    return logits
