"""Conformance kit of tasks."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from cvx_core.api import explain, get_renderer
from cvx_core.errors import CvxError, TargetError
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import registry
from cvx_core.tasks.base import Task
from cvx_core.tasks.catalogue import find_mistakes, get_task
from cvx_core.tasks.classes import TargetRecord
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.targets import Distribution, Error, Margin, Predicted, Target
from cvx_core.testing.kits.base import Conformance
from cvx_core.testing.kits.variants import check_all_explainers

TARGETS: tuple[Target, ...] = (Predicted(), Distribution(), Error(), Margin())


class TaskConformance(Conformance):
    """Checks of a task; see `Conformance` for the attributes.

    A subclass gives a model of the task, an input and its ground truth, for which the model is
    wrong.

    Attributes
    ----------
    label
        Ground truth of `inputs` that the model's prediction is not.
    label_text
        Ground truth as written on the command line; empty if only a file holds it.
    options
        Parameters of explainers that keep the check of all explainers short.
    """

    kind: ClassVar[str] = "task"
    label: ClassVar[Any] = None
    label_text: ClassVar[str] = ""
    options: ClassVar[dict[str, dict[str, Any]]] = {}

    @abstractmethod
    def model(self) -> VisionModel:
        """Return a model of the task, with the task under test."""

    def inputs(self) -> torch.Tensor:
        """Return a prepared image (1, 3, H, W)."""
        return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def task(self) -> Task:
        """Return the task under test with default parameters."""
        return get_task(self.component)

    def prediction(self, model: VisionModel) -> Prediction:
        """Return the model's prediction for `inputs`."""
        [one] = model.prepare(self.inputs())
        [found] = model.predictions(model.output(one.tensor[None]), [one.frame])
        return found

    def test_it_has_the_name_it_is_offered_by(self) -> None:
        """Models and predictions name their task."""
        model = self.model()
        assert self.task().name == self.component
        assert model.task.name == self.prediction(model).task == self.component

    def test_outputs_of_a_prediction_are_those_of_the_model(self) -> None:
        """Seeds are vectors over them, in one order."""
        model = self.model()
        flat = model.output(self.inputs()).flat[0].double().numpy()
        np.testing.assert_allclose(self.prediction(model).outputs, flat, rtol=1e-6)

    def test_its_link_is_differentiable_and_in_the_order_of_the_outputs(self) -> None:
        """Explainers that ask for probabilities need a gradient."""
        model = self.model()
        raw = model.run(self.inputs().requires_grad_())
        output = model.parse_output(raw)
        linked = model.task.link(output)
        assert linked.shape == output.flat.shape
        [gradient] = torch.autograd.grad(linked.sum() + linked[:, 0].sum(), [output.scores])
        assert torch.isfinite(gradient).all()
        if model.task.activation:
            assert float(linked.detach().min()) >= 0
            assert float(linked.detach().max()) <= 1

    def test_targets_resolve_to_finite_seeds_or_say_why_not(self) -> None:
        """A record goes through JSON unchanged."""
        prediction, refused = self.prediction(self.model()), []
        for target in TARGETS:
            try:
                seed, record = prediction.resolve(target, self.label)
            except TargetError as error:
                refused.append(error)
                continue
            assert seed.shape == prediction.outputs.shape
            assert np.isfinite(seed).all()
            assert record.score == pytest.approx(prediction.value(seed))
            assert "\n" not in self.model().task.summary(record)
            assert TargetRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
        assert all(error.hint for error in refused)

    def test_without_ground_truth_an_error_says_what_it_needs(self) -> None:
        """`Error` and `Margin` need a label."""
        prediction = self.prediction(self.model())
        for target in (Error(), Margin()):
            with pytest.raises(CvxError) as caught:
                prediction.resolve(target)
            assert caught.value.hint

    def test_mistakes_come_in_order_and_judge_themselves(self) -> None:
        """Each has a target that explains it, and judges the same prediction as wrong."""
        prediction = self.prediction(self.model())
        mistakes = find_mistakes(prediction, self.label)
        assert mistakes, "label must be one that the model's prediction is not"
        losses = [one.loss for one in mistakes]
        assert losses == sorted(losses, reverse=True)
        for one in mistakes[:3]:
            seed, _ = one.target.resolve(prediction, self.label)
            assert np.any(seed)
            judged = one.judge(prediction)
            assert not judged.right
            assert judged.margin == pytest.approx(one.margin, abs=1e-6)

    def test_written_labels_are_read_once(self) -> None:
        """What has been read is taken as it is."""
        if not self.label_text:
            pytest.skip("ground truth of this task is a file")
        task, classes = self.model().task, self.model().classes
        read = task.read_label(self.label_text, "", classes)
        assert task.read_label(read, "", classes) == read

    def test_every_explainer_gives_a_map_or_a_reason(self) -> None:
        """With each of its options. No map is flat or holds nan; every refusal has a way out."""
        made, tried = check_all_explainers(self.model(), self.inputs(), self.label, self.options)
        assert made >= tried

    @pytest.mark.parametrize("renderer", registry().names("renderer"))
    def test_every_renderer_draws_it(self, renderer: str) -> None:
        """With the ground truth beside the prediction."""
        [found] = explain(self.model(), self.inputs(), target=Margin(), label=self.label)
        assert get_renderer(renderer).render([found])
