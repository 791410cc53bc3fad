"""Zero-shot classification: prompts as classes, similarities as the networks compute them."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from cvx_zero_shot.image_text import zero_shot_model
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

import cvx_core as cvx
from cvx_core.testing.conformance import TaskConformance

PROMPTS = ["a photo of a cat", "a dog", "a red car"]
X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TEXT = {
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 12},
    **{"num_attention_heads": 2, "max_position_embeddings": 12, "projection_size": 24},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
VISION = {
    **{"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "image_size": 32},
    **{"num_attention_heads": 2, "patch_size": 16},
}
WORDS = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", "a", "photo", "of", "cat", "dog", "red", "car", "the"]


def network(kind: str) -> Any:
    torch.manual_seed(0)
    name = {"clip": "CLIP", "siglip": "Siglip"}[kind]
    config = getattr(transformers, f"{name}Config")(text_config=TEXT, vision_config=VISION)
    net = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():  # random towers see little difference between texts
        net.logit_scale.fill_(3.0)
        for name, parameter in net.named_parameters():
            if name.endswith("weight"):  # a norm of unit weights has the same sum for all inputs
                parameter.mul_(4) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
    return net


def processor() -> Any:
    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    special = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return transformers.CLIPProcessor(images, tokenizer)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("clip")
    network("clip").save_pretrained(found)
    processor().save_pretrained(found)
    (found / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return found


def tokens(texts: list[str]) -> dict[str, Tensor]:
    return dict(processor()(text=texts, padding="max_length", max_length=12, return_tensors="pt"))


def model(kind: str = "clip") -> cvx.VisionModel:
    return zero_shot_model(network(kind), tokens, PROMPTS)


class TestZeroShot(TaskConformance):
    component = "zero-shot"
    options = {"rise": {"masks": 8}, "occlusion": {"window": 8}}  # noqa: RUF012

    @property
    def label(self) -> str:  # type: ignore[override]
        return PROMPTS[int(model().logits(X).argmin())]

    label_text = "a dog"

    def model(self) -> cvx.VisionModel:
        return model()


@pytest.mark.slow
class TestSigmoid(TestZeroShot):
    def model(self) -> cvx.VisionModel:
        return model("siglip")

    @property
    def label(self) -> str:  # type: ignore[override]
        return PROMPTS[int(model("siglip").logits(X).argmin())]


@pytest.mark.parametrize(("kind", "link"), [("clip", "softmax"), ("siglip", "sigmoid")])
def test_logits_and_probabilities_are_those_of_transformers(kind: str, link: str) -> None:
    net = network(kind)
    with torch.no_grad():
        expected = net(**tokens(PROMPTS), pixel_values=X).logits_per_image[0].double()
    found = zero_shot_model(net, tokens, PROMPTS)
    [prediction] = found.predict(X)
    assert expected.std() > 0.1
    np.testing.assert_allclose(prediction.logits, expected, rtol=1e-4, atol=1e-5)
    linked = expected.softmax(0) if link == "softmax" else expected.sigmoid()
    np.testing.assert_allclose(prediction.probabilities, linked, rtol=1e-4)
    np.testing.assert_allclose(found.task.link(found.output(X))[0], linked, rtol=1e-4)
    assert link in found.details["probability"]
    assert found.classes == tuple(PROMPTS)


@pytest.mark.parametrize("name", ["ViT-tiny", "RN-tiny", "Bias-tiny"])
def test_logits_are_those_of_open_clip(name: str, tmp_path: Path) -> None:
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
    if name.startswith("RN"):
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    extra = {"init_logit_bias": -1.0} if name.startswith("Bias") else {}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, **extra}
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    loaded = cvx.load_model(
        f"zero-shot:{name},prompts=[a cat,a dog],template=a photo of a {{}}", weights="random"
    )
    x = torch.rand(2, 3, vision["image_size"], vision["image_size"])
    net = loaded.module.network
    prompts = open_clip.get_tokenizer(name)(["a photo of a a cat", "a photo of a a dog"])
    with torch.no_grad():
        expected = net.get_logits(x, prompts)[0]
    torch.testing.assert_close(loaded.logits(x), expected)
    assert loaded.classes == ("a cat", "a dog")
    assert loaded.task.activation == ("sigmoid" if extra else "softmax")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_contrast_of_prompts_is_the_gradient_of_the_networks_own_logits(kind: str) -> None:
    net, found = network(kind), model(kind)
    x = X.clone().requires_grad_()
    logits = net(**tokens(PROMPTS), pixel_values=x).logits_per_image[0]
    [expected] = torch.autograd.grad(logits[0] - logits[1], x)
    target = cvx.parse_target("a photo of a cat vs a dog")
    explained = cvx.explain(found, X, "input-x-gradient", target)[0]
    wanted = (X * expected).sum(1)[0].numpy()
    assert abs(explained.values - wanted).max() <= 1e-4 * abs(wanted).max()
    assert explained.target.text == "why a photo of a cat rather than a dog?"


def test_the_error_of_a_sigmoid_is_the_gradient_of_its_loss() -> None:
    [found] = model("siglip").predict(X)
    z = torch.tensor(found.logits, requires_grad=True)
    truth = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, truth, reduction="sum")
    loss.backward()
    np.testing.assert_allclose(found.resolve(cvx.Error("a dog"))[0], z.grad, rtol=1e-9)
    assert found.loss(1) == pytest.approx(float(loss))


def test_a_folder_of_transformers_is_loaded_with_a_file_of_prompts(folder: Path) -> None:
    loaded = cvx.load_model(f"zero-shot:{folder},prompts={folder}/prompts.txt")
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    given = processor()(text=PROMPTS, images=image, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network("clip")(**given).logits_per_image[0]
    np.testing.assert_allclose(loaded.predict([image])[0].logits, expected, rtol=1e-4, atol=1e-5)
    assert loaded.name == f"zero-shot:{folder.name}"
    assert list(loaded.details["texts"]) == PROMPTS
    again = pickle.loads(pickle.dumps(loaded))
    torch.testing.assert_close(again.logits(X), loaded.logits(X))


def test_a_wrapper_that_returns_the_output_of_clip_is_read() -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network("clip")
            self.tokens = tokens(PROMPTS)

        def forward(self, x: Tensor) -> Any:
            return self.net(**self.tokens, pixel_values=x)

    wrapped = cvx.VisionModel(Wrapper(), classes=PROMPTS, task="zero-shot")
    torch.testing.assert_close(wrapped.logits(X), model().logits(X), rtol=1e-4, atol=1e-5)
    both = [cvx.explain(one, X, "attention-rollout")[0].values for one in (wrapped, model())]
    np.testing.assert_allclose(*both, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("zero-shot:some/clip", cvx.OptionError, "needs a model and prompts"),
        ("zero-shot:some/clip,prompts=nowhere.txt", cvx.ModelError, "prompts not found"),
        ("zero-shot:some/clip,prompts=[a cat]", cvx.ModelError, "two or more different texts"),
        ("zero-shot:ViT-B-32,prompts=[a,b]", cvx.CheckpointError, "needs --weights TAG"),
    ],
)
def test_what_is_missing_is_said(
    text: str, error: type[cvx.CvxError], said: str, folder: Path
) -> None:
    with pytest.raises(error, match=said) as caught:
        cvx.load_model(text.replace("some/clip", str(folder)))
    assert caught.value.hint


def test_a_prompt_that_the_network_would_cut_off_is_refused() -> None:
    with pytest.raises(cvx.ModelError, match="longer than the network reads"):
        zero_shot_model(network("clip"), partial(truncated), [*PROMPTS, "a " * 20])


def truncated(texts: list[str]) -> dict[str, Tensor]:
    form = {"padding": "max_length", "max_length": 12, "truncation": True}
    return dict(processor()(text=texts, return_tensors="pt", **form))


def test_a_network_with_other_similarities_is_refused() -> None:
    net = network("clip")
    own = type(net).forward

    class Doubled(type(net)):  # type: ignore[misc]
        def forward(self, **given: Any) -> Any:
            found = own(self, **given)
            found.logits_per_image = 2 * found.logits_per_image
            return found

    net.__class__ = Doubled
    with pytest.raises(cvx.ModelError, match="in another way"):
        zero_shot_model(net, tokens, PROMPTS, lambda image: X[0])
