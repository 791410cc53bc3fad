"""Folders with an adapter of PEFT are loaded with their base."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError

SMALL = {
    "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8, "id2label": {0: "cat", 1: "dog", 2: "owl"},
}  # fmt: skip
IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def saved(tmp_path: Path, labels: int = 3, **options: Any) -> tuple[Path, Any]:
    """Save a base model and an adapter of it with random weights; return the wrapped network."""
    peft = pytest.importorskip("peft", reason="the extra cvx-transformers[peft]")
    torch.manual_seed(0)
    base = hf.ViTForImageClassification(hf.ViTConfig(**SMALL))
    base.save_pretrained(tmp_path / "base")
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "base")
    if labels != 3:
        base.classifier = torch.nn.Linear(16, labels)
    linear = [name for name, one in base.named_modules() if isinstance(one, torch.nn.Linear)]
    inner = sorted({name.rpartition(".")[2] for name in linear} - {"classifier"})
    wrapped = peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules=inner, lora_alpha=4, **options)
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    described = tmp_path / "adapter" / "adapter_config.json"
    found = json.loads(described.read_text())
    found["base_model_name_or_path"] = str(tmp_path / "base")
    described.write_text(json.dumps(found))
    return tmp_path / "adapter", wrapped.eval()


def test_an_adapter_is_loaded_with_its_base(tmp_path: Path) -> None:
    folder, wrapped = saved(tmp_path)
    model = cvx.load_model(f"transformers:{folder}", dtype=torch.float64)
    assert model.name == "transformers:adapter"
    assert model.classes == ("cat", "dog", "owl")
    with torch.no_grad():
        expected = wrapped.double()(IMAGE.double()).logits
        plain = wrapped.get_base_model().double()
        with wrapped.disable_adapter():
            without = plain(IMAGE.double()).logits
    found = model.logits(IMAGE.double())
    # Merged into float32 weights, as they are stored.
    assert (found - expected).abs().max() < 1e-6
    assert (without - expected).abs().max() > 0.01
    [prepared] = model.prepare(torch.zeros(60, 80, 3, dtype=torch.uint8).numpy())
    assert prepared.extent == (0, 0, 80, 60)


def test_a_classifier_that_was_trained_with_the_adapter_replaces_that_of_the_base(
    tmp_path: Path,
) -> None:
    folder, wrapped = saved(tmp_path, labels=5, modules_to_save=["classifier"])
    model = cvx.load_model(f"transformers:{folder}")
    assert model.classes is None  # the names are those of the base
    with torch.no_grad():
        expected = wrapped(IMAGE).logits
    assert expected.shape == (1, 5)
    assert (model.logits(IMAGE) - expected).abs().max() < 1e-5


def test_maps_are_those_of_the_wrapped_network(tmp_path: Path) -> None:
    folder, wrapped = saved(tmp_path)
    model = cvx.load_model(f"transformers:{folder}", dtype=torch.float64)
    [one] = cvx.explain(model, IMAGE.double(), "input-x-gradient", cvx.ClassScore(1))
    x = IMAGE.double().requires_grad_()
    [gradient] = torch.autograd.grad(wrapped.double()(x).logits[0, 1], x)
    expected = (x * gradient).sum(1)[0].detach()
    assert (torch.from_numpy(one.values) - expected).abs().max() < 1e-5


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path)
    described = folder / "adapter_config.json"
    found = json.loads(described.read_text())
    found["base_model_name_or_path"] = str(tmp_path / "elsewhere")
    described.write_text(json.dumps(found))
    with pytest.raises(ModelError, match=r"is an adapter of .*elsewhere") as caught:
        cvx.load_model(f"transformers:{folder}")
    assert "base_model_name_or_path" in caught.value.hint


def test_an_adapter_of_another_network_is_refused(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path)
    hf.ViTForImageClassification(hf.ViTConfig(**{**SMALL, "hidden_size": 24})).save_pretrained(
        tmp_path / "base"
    )
    with pytest.raises(CheckpointError, match="doesn't fit"):
        cvx.load_model(f"transformers:{folder}")


def test_without_peft_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="is an adapter") as caught:
        cvx.load_model(f"transformers:{folder}")
    assert caught.value.hint == cvx.install_command("peft")
