"""Conformance kit of model sources."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from cvx_core.errors import CheckpointError, CvxError, ModelError
from cvx_core.models.sources import ModelEntry, ModelSource, load_model
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import get_component
from cvx_core.testing.kits.base import Conformance


class ModelSourceConformance(Conformance):
    """Checks of a model source; see `Conformance` for the attributes.

    Attributes
    ----------
    model
        Name of a model that the source builds with random weights, without network.
    size
        Largest side of an image that the checks send through it.
    """

    kind: ClassVar[str] = "model source"
    model: ClassVar[str] = ""

    def source(self) -> ModelSource:
        """Return the source under test."""
        given = dict(self.parameters)
        return get_component(self.kind, self.component, given, ModelSource)  # type: ignore[type-abstract]

    def load(self) -> VisionModel:
        """Return the model with random weights."""
        return self.source().load(self.model, weights="random")

    def test_its_models_are_listed_by_name(self) -> None:
        """Each once; a source that can't list them lists none."""
        entries = list(self.source().models())
        assert all(isinstance(entry, ModelEntry) for entry in entries)
        names = [entry.name for entry in entries]
        assert len(set(names)) == len(names)

    def test_a_model_explains_images(self) -> None:
        """Preprocessing, outputs and class names belong together."""
        model = self.load()
        photo = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
        [prepared] = model.prepare(photo)
        logits = model.logits(prepared.tensor[None])
        assert logits.ndim == 2
        assert torch.isfinite(logits).all()
        [prediction] = model.predict(photo)
        assert prediction.task == model.task.name
        if model.classes is not None:
            assert all(prediction.name(index) == name for index, name in enumerate(model.classes))
        left, top, right, bottom = prepared.extent
        assert left < right
        assert top < bottom
        assert not prepared.note, "the preprocess is no plain resize and crop"

    def test_a_model_says_where_it_is_from(self) -> None:
        """Its name in the provenance is the one it is loaded by."""
        assert self.load().name.startswith(self.component.partition("@")[0] + ":")

    def test_random_weights_are_the_same_each_time(self) -> None:
        """And the caller's random state is left alone."""
        before = torch.get_rng_state()
        first = self.load().digest()
        torch.rand(3)
        assert self.load().digest() == first
        torch.set_rng_state(before)
        self.load()
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_model_is_ready_for_evaluation(self) -> None:
        """Whoever uses the module itself gets the predictions that the explanations explain."""
        assert not self.load().module.training

    def test_an_unknown_model_is_a_model_error_with_a_way_out(self) -> None:
        """No traceback of the library behind it."""
        with pytest.raises(ModelError) as caught:
            self.source().load("no-such-model-of-ours")
        assert caught.value.hint

    def test_weights_that_are_not_there_are_a_clear_error(self, tmp_path: Path) -> None:
        """Named, and at once."""
        with pytest.raises(CvxError):
            self.source().load(self.model, weights=tmp_path / "missing.safetensors")

    def test_weights_that_would_run_code_are_refused_and_not_run(self, tmp_path: Path) -> None:
        """Unless the caller trusts the file."""
        marker, path = tmp_path / "was-run", tmp_path / "weights.pth"
        with path.open("wb") as stream:
            pickle.dump(_Code(marker), stream)
        with pytest.raises(CheckpointError):
            self.source().load(self.model, weights=path)
        assert not marker.exists()

    def test_saved_weights_load_again(self, tmp_path: Path) -> None:
        """A state dict goes back into the model it came from."""
        model, path = self.load(), tmp_path / "weights.pth"
        with torch.no_grad():
            for parameter in model.module.parameters():
                parameter.add_(0.25)
        torch.save(model.module.state_dict(), path)
        again = load_model(f"{self.component}:{self.model}", weights=path)
        assert again.digest() == model.digest()


class _Code:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.marker,)
