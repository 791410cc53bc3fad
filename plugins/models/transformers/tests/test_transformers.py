"""Image classifiers of transformers, read from a folder."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import cvx_transformers.hub
import pytest
import torch
import transformers as hf
from PIL import Image

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError
from cvx_core.images.geometry import measure

SMALL = {
    "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8, "num_labels": 3,
}  # fmt: skip
SIDE = {"height": 32, "width": 32}
PHOTOGRAPH = Image.linear_gradient("L").resize((320, 200)).convert("RGB")

# Of each family: the network, its processor, and which part of a 320 x 200 photograph that covers.
FAMILIES: dict[str, tuple[Any, Any, tuple[float, float, float, float]]] = {
    "vit": (
        lambda: hf.ViTForImageClassification(hf.ViTConfig(**SMALL)),
        lambda: hf.ViTImageProcessor(size=SIDE),
        (0, 0, 320, 200),
    ),
    "deit": (
        lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**SMALL)),
        lambda: hf.DeiTImageProcessor(size={"height": 40, "width": 40}, crop_size=SIDE),
        (32, 20, 288, 180),
    ),
    "beit": (
        lambda: hf.BeitForImageClassification(hf.BeitConfig(**SMALL)),
        lambda: hf.BeitImageProcessor(size=SIDE, do_center_crop=False),
        (0, 0, 320, 200),
    ),
    "swin": (
        lambda: hf.SwinForImageClassification(
            hf.SwinConfig(
                image_size=32,
                patch_size=4,
                embed_dim=8,
                depths=[1, 1],
                num_heads=[1, 2],
                window_size=4,
                num_labels=3,
            )
        ),
        lambda: hf.ViTImageProcessor(size=SIDE),
        (0, 0, 320, 200),
    ),
    "convnext": (
        lambda: hf.ConvNextForImageClassification(
            hf.ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], num_labels=3)
        ),
        lambda: hf.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.8),
        (80, 20, 240, 180),
    ),
    "resnet": (
        lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(
                embedding_size=8,
                hidden_sizes=[8, 16],
                depths=[1, 1],
                layer_type="basic",
                num_labels=3,
            )
        ),
        lambda: hf.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.8),
        (80, 20, 240, 180),
    ),
}


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def save(folder: Path, family: str = "vit", names: list[str] | None = None) -> Any:
    """Write a model as transformers does, and return the network."""
    module, processor, _ = FAMILIES[family]
    torch.manual_seed(1)
    network = module()
    if names:
        network.config.id2label = dict(enumerate(names))
    network.save_pretrained(folder)
    processor().save_pretrained(folder)
    return network.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_answers_as_transformers_does(tmp_path: Path, family: str) -> None:
    network = save(tmp_path, family)
    model = cvx.load_model(f"transformers:{tmp_path}")
    [prepared] = model.prepare(PHOTOGRAPH)
    processor = hf.AutoImageProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = network(**processor(images=PHOTOGRAPH, return_tensors="pt")).logits
    assert torch.equal(model.logits(prepared.tensor[None]), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_processors_crop_is_measured(tmp_path: Path, family: str) -> None:
    save(tmp_path, family)
    model = cvx.load_model(f"transformers:{tmp_path}")
    assert model.preprocess is not None
    # To an input pixel, which is up to 10 pixels of the photograph; odd remainders add a half.
    assert measure(model.preprocess, (320, 200)).extent == pytest.approx(FAMILIES[family][2], abs=6)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_and_a_file_of_ones_own_load(tmp_path: Path, family: str) -> None:
    save(tmp_path, family)
    model = cvx.load_model(f"transformers:{tmp_path}")
    one, two = (cvx.load_model(f"transformers:{tmp_path}", weights="random") for _ in range(2))
    assert one.digest() == two.digest() != model.digest()
    own = cvx.load_model(f"transformers:{tmp_path}", weights=tmp_path / "model.safetensors")
    assert own.digest() == model.digest()
    assert [m.details["weights"] for m in (model, one, own)] == [
        "pretrained", "random", "model.safetensors"
    ]  # fmt: skip


def test_class_names_are_the_models_own_first_synonyms(tmp_path: Path) -> None:
    save(tmp_path / "named", names=["tench, Tinca tinca", "crane, bird", "crane, machine"])
    model = cvx.load_model(f"transformers:{tmp_path / 'named'}")
    assert model.classes == ("tench", "crane, bird", "crane, machine")
    save(tmp_path / "unnamed")
    assert cvx.load_model(f"transformers:{tmp_path / 'unnamed'}").classes is None


def test_the_name_does_not_tell_where_the_folder_is(tmp_path: Path) -> None:
    save(tmp_path / "mine")
    model = cvx.load_model(f"transformers:{tmp_path / 'mine'}")
    assert model.name == "transformers:mine"


def test_a_model_survives_pickling(tmp_path: Path) -> None:
    save(tmp_path)
    model = cvx.load_model(f"transformers:{tmp_path}")
    again = pickle.loads(pickle.dumps(model))
    [prepared] = again.prepare(PHOTOGRAPH)
    assert torch.equal(prepared.tensor, model.prepare(PHOTOGRAPH)[0].tensor)


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    save(tmp_path)
    hf.ViTForImageClassification.from_pretrained(tmp_path, dtype=torch.bfloat16).save_pretrained(
        tmp_path
    )
    assert cvx.load_model(f"transformers:{tmp_path}").dtype == torch.float32


def test_weights_without_a_trained_classifier_are_refused(tmp_path: Path) -> None:
    hf.ViTModel(hf.ViTConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"2 missing \(classifier\.bias, classifier\.weight"):
        cvx.load_model(f"transformers:{tmp_path}")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(i): f"class {i}" for i in range(5)}
    config["label2id"] = {f"class {i}": i for i in range(5)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"classifier\.weight is \(3, 16\) and should be \(5,"
    ):
        cvx.load_model(f"transformers:{tmp_path}")


def test_pickled_weights_that_would_run_code_do_not_run(tmp_path: Path) -> None:
    network, mark = save(tmp_path), tmp_path / "mark"
    (tmp_path / "model.safetensors").unlink()
    torch.save({**network.state_dict(), "x": Trap(mark)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="could run code"):
        cvx.load_model(f"transformers:{tmp_path}")
    assert not mark.exists()


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "theirs.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="configuration"):
        cvx.load_model(f"transformers:{tmp_path}")
    assert not mark.exists()


def test_a_model_that_is_no_image_classifier_is_refused(tmp_path: Path) -> None:
    hf.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"'bert'\. transformers has no image classifier, segmenter or"
    ):
        cvx.load_model(f"transformers:{tmp_path}")


def test_damaged_weights_are_an_error_of_ours(tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="can't be loaded"):
        cvx.load_model(f"transformers:{tmp_path}")


def test_a_model_without_processor_takes_tensors_and_says_what_is_missing(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    model = cvx.load_model(f"transformers:{tmp_path}")
    assert model.logits(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json not found"):
        model.prepare(PHOTOGRAPH)


def test_what_is_neither_here_nor_to_be_had_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def cached(repository: str, *, local_files_only: bool = False, **_: Any) -> str:
        assert local_files_only, "no network"
        raise FileNotFoundError(repository)

    monkeypatch.setenv("CVX_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(cvx_transformers.hub, "snapshot_download", cached)
    with pytest.raises(CheckpointError, match="CVX_OFFLINE is set") as caught:
        cvx.load_model("transformers:somebody/something")
    assert "save_pretrained" in caught.value.hint


def test_a_cached_model_of_the_hub_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save(tmp_path)

    def cached(repository: str, *, revision: str | None, local_files_only: bool) -> str:
        assert (repository, revision, local_files_only) == ("somebody/something", "v2", True)
        return str(tmp_path)

    monkeypatch.setattr(cvx_transformers.hub, "snapshot_download", cached)
    model = cvx.load_model("transformers:somebody/something@v2")
    assert model.name == "transformers:somebody/something@v2"


@pytest.mark.parametrize("name", ["", "/no/such/folder", "./none", "a/b/c"])
def test_a_name_that_can_be_no_model_is_refused_without_asking(name: str) -> None:
    with pytest.raises(ModelError):
        cvx.load_model(f"transformers:{name}")


def test_a_folder_that_holds_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No config\.json"):
        cvx.load_model(f"transformers:{tmp_path}")


def test_weights_have_no_names_here(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(CheckpointError, match=r"got 'best'(.|\n)*'random' or a file path"):
        cvx.load_model(f"transformers:{tmp_path}", weights="best")


def test_an_image_text_model_is_refused_with_its_source(tmp_path: Path) -> None:
    """CLIP's configuration also fits a classifier, whose weights it lacks."""
    text = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 9}
    vision = {key: value for key, value in SMALL.items() if key != "num_labels"}
    hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="its classes are prompts") as caught:
        cvx.load_model(f"transformers:{tmp_path}")
    assert f"-m zero-shot:{tmp_path},prompts=" in caught.value.hint
