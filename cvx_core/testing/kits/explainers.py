"""Conformance kit of explainers."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core.api import get_explainer
from cvx_core.errors import CvxError, UsageError
from cvx_core.explainers.base import Explainer
from cvx_core.explanations.explanation import Explanation
from cvx_core.models.vision_model import VisionModel
from cvx_core.tasks.targets import ClassScore, Contrast, Predicted, Target
from cvx_core.testing import models
from cvx_core.testing.kits.base import Conformance

NETWORKS: dict[str, Callable[[], VisionModel]] = {
    "convolutional": models.convolutional,
    "tokens": models.tokens,
}
PROVENANCE = {
    "method", "parameters", "model", "weights_sha256", "image_sha256", "input_size", "seed",
    "device", "dtype", "versions",
}  # fmt: skip
EVIDENCE = {"sum", "class_specific", "seconds", "forwards", "backwards", "bytes"}


class ExplainerConformance(Conformance):
    """Checks of an explainer; see `Conformance` for the attributes.

    Attributes
    ----------
    networks
        The networks that the method can explain. For one left out it must say so in an
        error with a hint.
    """

    kind: ClassVar[str] = "explainer"
    networks: ClassVar[Sequence[str]] = tuple(NETWORKS)

    @pytest.fixture(params=tuple(NETWORKS))
    def model(self, request: pytest.FixtureRequest) -> VisionModel:
        """Return a tiny network in float64, so that what is equal differs by rounding only."""
        if request.param not in self.networks:
            pytest.skip(f"the method can't explain the network {request.param!r}")
        return NETWORKS[request.param]().to(dtype=torch.float64)

    def explainer(self) -> Explainer:
        """Return the explainer under test."""
        return get_explainer(self.component, **self.parameters)

    def explain(
        self,
        model: VisionModel,
        inputs: Tensor | None = None,
        target: Target | Sequence[Target | Sequence[Target]] | None = None,
        explainer: Explainer | None = None,
    ) -> list[Explanation]:
        """Explain inputs, every one with a label that the model gets wrong."""
        batch = models.inputs() if inputs is None else inputs
        chosen = explainer or self.explainer()
        return chosen.explain(model, batch, target, label=wrong_labels(model, batch))

    def test_each_image_gets_a_finite_map_in_order(self, model: VisionModel) -> None:
        """One float32 map (h, w) for each image, no larger than the image, with its metadata."""
        batch = models.inputs()
        found = self.explain(model, batch)
        assert len(found) == len(batch)
        for i, one in enumerate(found):
            assert one.values.dtype == np.float32
            assert one.values.ndim == 2
            assert max(one.values.shape) <= models.SIZE
            assert np.isfinite(one.values).all()
            assert one.extent == (0.0, 0.0, models.SIZE, models.SIZE)
            assert one.name == f"tensor {i}"
            assert one.method == self.component.partition("@")[0]
            assert one.unit
            assert one.signed or one.values.min() >= 0, "an unsigned map holds negative values"

    def test_the_maps_are_not_constant(self, model: VisionModel) -> None:
        """A map that is the same everywhere, or for every image, explains nothing."""
        found = self.explain(model)
        assert all(np.ptp(one.values) > 0 for one in found)
        assert not np.array_equal(found[0].values, found[1].values)

    def test_the_same_seed_gives_the_same_map(self, model: VisionModel) -> None:
        """Nothing depends on the global random state or on earlier requests."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            once = self.explain(model)
            torch.manual_seed(2)
            again = self.explain(model)
        assert_same(once, again, exactly=True)

    def test_the_model_is_left_as_found(self, model: VisionModel) -> None:
        """Parameters, buffers, modes, gradients, flags, hooks and random states stay."""
        batch = models.inputs()
        labels = wrong_labels(model, batch)
        unusual(model.module)
        before = state_of(model.module)
        self.explainer().explain(model, batch, label=labels)
        assert_state(before, state_of(model.module))

    def test_the_model_is_left_as_found_by_an_exception(self, model: VisionModel) -> None:
        """Whichever forward pass fails: the state comes back, and the next call works."""
        batch = models.inputs(1)
        labels = wrong_labels(model, batch)
        expected = self.explain(model, batch)
        unusual(model.module)
        before = state_of(model.module)
        for passes in range(100):
            fresh = VisionModel(model.module, classes=model.classes)
            fresh.module.forward = Failing(model.module.forward, passes)
            failure: Exception | None = None
            try:
                self.explainer().explain(fresh, batch, label=labels)
            except Exception as error:  # the failure may be wrapped in an error of ours
                failure = error
            finally:
                del fresh.module.forward
            if failure is None:
                break
            assert Failing.message in chain(failure)
            assert_state(before, state_of(model.module))
        assert passes > 0, "the model was never run"
        assert_same(expected, self.explain(model, batch))

    def test_the_inputs_are_left_as_they_were(self, model: VisionModel) -> None:
        """The caller's tensor keeps its values and takes no part in a graph."""
        batch = models.inputs().to(model.dtype)
        before = batch.clone()
        self.explain(model, batch)
        assert torch.equal(batch, before)
        assert not batch.requires_grad
        assert batch.grad is None

    def test_an_image_alone_has_the_map_that_it_has_in_a_batch(self, model: VisionModel) -> None:
        """Nothing is averaged, normalised or drawn over a batch."""
        batch = models.inputs()
        alone = [one for i in range(len(batch)) for one in self.explain(model, batch[i : i + 1])]
        together = self.explain(model, batch)
        for one, other in zip(alone, together, strict=True):
            assert_close(one, other)

    def test_each_image_of_a_batch_has_its_own_target(self, model: VisionModel) -> None:
        """Different targets in one batch are explained as if each was alone."""
        batch = models.inputs()
        targets = [ClassScore(0), Contrast(1, 2), Predicted()]
        together = self.explain(model, batch, targets)
        for i, target in enumerate(targets):
            [alone] = self.explain(model, batch[i : i + 1], target)
            assert_close(alone, together[i])
            assert alone.target.text == together[i].target.text

    def test_several_targets_of_one_image_are_explained_in_order(self, model: VisionModel) -> None:
        """Sharing a forward pass changes no map."""
        batch, targets = models.inputs(1), [ClassScore(3), ClassScore(1)]
        found = self.explain(model, batch, [targets])
        assert len(found) == len(targets)
        for target, one in zip(targets, found, strict=True):
            [alone] = self.explain(model, batch, target)
            assert_close(alone, one)

    def test_the_target_matters_where_the_method_says_so(self, model: VisionModel) -> None:
        """A class-specific map differs between classes; any other says that it does not."""
        [ant], [bee] = (self.explain(model, models.inputs(1), ClassScore(c)) for c in (0, 1))
        scale = float(np.abs(ant.values).max())
        differ = float(np.abs(ant.values - bee.values).max()) > 1e-6 * scale
        assert differ == self.explainer().class_specific
        assert ant.evidence["class_specific"] == self.explainer().class_specific

    def test_a_signed_map_changes_its_sign_with_the_target(self, model: VisionModel) -> None:
        """Why P rather than Q is the opposite of why Q rather than P."""
        if not (self.explainer().signed and self.explainer().class_specific):
            pytest.skip("only signed, class-specific maps have an opposite")
        [forth] = self.explain(model, models.inputs(1), Contrast(0, 1))
        [back] = self.explain(model, models.inputs(1), Contrast(1, 0))
        assert_close(forth, back.replace(values=-back.values))

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_the_caller_s_gradient_mode_does_not_matter(
        self, model: VisionModel, context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """It works inside the caller's no_grad and inference_mode."""
        expected = self.explain(model, models.inputs(2))
        with context():
            assert_same(expected, self.explain(model, models.inputs(2)))

    def test_frozen_parameters_do_not_matter(self, model: VisionModel) -> None:
        """A model whose parameters need no gradient is explained all the same."""
        expected = self.explain(model, models.inputs(2))
        model.module.requires_grad_(False)
        assert_same(expected, self.explain(model, models.inputs(2)))

    def test_training_mode_does_not_matter(self, model: VisionModel) -> None:
        """Dropout and batch statistics stay out of the map."""
        expected = self.explain(model, models.inputs(2))
        labels = wrong_labels(model, models.inputs(2))
        model.module.train()
        assert_same(expected, self.explainer().explain(model, models.inputs(2), label=labels))

    def test_threads_on_one_model_do_not_meet(self, model: VisionModel) -> None:
        """Two explanations at a time give what each gives alone."""
        batches = [models.inputs(1, seed) for seed in range(4)]
        expected = [self.explain(model, batch) for batch in batches]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda batch: self.explain(model, batch), batches))
        for one, other in zip(expected, found, strict=True):
            assert_same(one, other)

    def test_explainer_and_explanations_survive_pickling(self, model: VisionModel) -> None:
        """For other processes and machines."""
        explainer: Explainer = pickle.loads(pickle.dumps(self.explainer()))
        found = self.explain(model)
        assert pickle.loads(pickle.dumps(found)) == found
        assert_same(found, self.explain(model, explainer=explainer))

    def test_evidence_and_provenance_are_complete(self, model: VisionModel) -> None:
        """What a reader needs to judge and to repeat the map, as JSON values."""
        [one] = self.explain(model, models.inputs(1))
        assert set(one.provenance) >= PROVENANCE
        assert set(one.evidence) >= EVIDENCE
        assert one.provenance["method"] == one.method
        assert one.provenance["weights_sha256"] == model.digest()
        given = one.provenance["parameters"]
        assert set(given) >= set(self.parameters)
        json.dumps(one.to_dict(), allow_nan=False)
        total = float(one.values.sum(dtype=np.float64))
        scale = float(np.abs(one.values).sum(dtype=np.float64))
        # The map is float32, the sum in the evidence was taken before it was rounded.
        assert one.evidence["sum"] == pytest.approx(total, abs=1e-6 * max(scale, 1e-12))

    def test_the_map_lies_on_what_the_prediction_reads(self) -> None:
        """Only one quarter of the image is not black, and the prediction names it."""
        if "convolutional" not in self.networks:
            pytest.skip("the network of this check is convolutional")
        model = models.quadrants().to(dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        for quarter in range(4):
            batch = torch.zeros(1, 3, 16, 16)
            top, left = 8 * (quarter // 2), 8 * (quarter % 2)
            noise = torch.rand(1, 3, 8, 8, generator=generator)
            batch[:, :, top : top + 8, left : left + 8] = 0.5 + noise
            [one] = self.explainer().explain(model, batch, label=(quarter + 1) % 4)
            assert one.target.predicted.index == quarter
            shares = np.abs(one.heatmap((2, 2))) / np.abs(one.heatmap((2, 2))).sum()
            assert shares.ravel()[quarter] > 0.5

    @pytest.mark.parametrize("network", tuple(NETWORKS))
    def test_a_network_that_cannot_be_explained_is_refused_in_words(self, network: str) -> None:
        """No uniform map, no wrong layer: an error that names the way out."""
        if network in self.networks:
            pytest.skip("the method explains this network")
        with pytest.raises(CvxError) as caught:
            self.explain(NETWORKS[network]())
        assert caught.value.hint

    def test_a_parameter_that_it_does_not_take_is_refused(self) -> None:
        """Nothing is swallowed."""
        with pytest.raises(UsageError, match="no_such_parameter_of_ours"):
            get_explainer(self.component, **self.parameters, no_such_parameter_of_ours=1)


class Failing:
    """A forward pass that works a few times and then fails."""

    message = "this forward pass was made to fail"

    def __init__(self, forward: Callable[..., Any], passes: int) -> None:
        self.forward, self.passes = forward, passes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module; fail after it ran, when its hooks have been called."""
        output = self.forward(*args, **kwargs)
        self.passes -= 1
        if self.passes < 0:
            raise RuntimeError(self.message)
        return output


def wrong_labels(model: VisionModel, batch: Tensor) -> list[int | str | None]:
    """Return labels that differ from the predictions."""
    logits = model.logits(batch)
    return [int((c + 1) % logits.shape[1]) for c in logits.argmax(1)]


def unusual(module: nn.Module) -> None:
    """Put a module into a state that a careless explainer would tidy up."""
    module.train()
    for i, child in enumerate(module.modules()):
        child.training = i % 2 == 0
    for i, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(i % 3 != 0)
        parameter.grad = torch.ones_like(parameter) if i % 2 else None


def state_of(module: nn.Module) -> dict[str, Any]:
    """Return everything that an explainer must not change."""
    return {
        "tensors": {name: t.detach().clone() for name, t in module.state_dict().items()},
        "versions": {name: p._version for name, p in module.named_parameters()},
        "modes": [m.training for m in module.modules()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        "flags": [p.requires_grad for p in module.parameters()],
        "hooks": [
            sum(len(value) for key, value in vars(m).items() if key.endswith("_hooks"))
            for m in module.modules()
        ],
        "attributes": [set(vars(m)) - {"forward"} for m in module.modules()],
        "types": [type(m) for m in module.modules()],
        "torch": torch.get_rng_state(),
        "numpy": repr(np.random.get_state(legacy=False)),
        "python": random.getstate(),
        "gradient mode": torch.is_grad_enabled(),
    }


def assert_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Fail with the name of what changed."""
    for key in before:
        assert same_value(before[key], after[key]), f"{key} changed"


def same_value(a: Any, b: Any) -> bool:
    """Compare nested values that may hold tensors."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_value(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same_value, a, b))
    return bool(a == b)


def assert_same(
    expected: list[Explanation], found: list[Explanation], *, exactly: bool = False
) -> None:
    """Compare maps and targets; timings may differ."""
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert one.target.text == other.target.text
        if exactly:
            np.testing.assert_array_equal(one.values, other.values)
        else:
            assert_close(one, other)


def assert_close(one: Explanation, other: Explanation) -> None:
    """Compare maps computed in float64 and rounded to float32: 1e-6 of the largest value."""
    scale = max(float(np.abs(one.values).max()), 1e-12)
    np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-6 * scale)


def chain(error: BaseException | None) -> str:
    """Return the texts of an exception and its causes."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)
