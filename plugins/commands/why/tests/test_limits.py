"""Limits of ``cvx.why``: confirmation of the fix, memory, and the count of passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from cvx_why import why
from cvx_why.search.candidates import margin_map
from cvx_why.search.fix import find_fix
from cvx_why.search.inpainting import FILLS
from cvx_why.search.perturbations import PassCounter, PerturbationRunner
from cvx_why.search.search import Search
from torch import Tensor, nn

from cvx_core import VisionModel
from cvx_core.recording import Layout
from cvx_core.tasks.base import Judgement, Mistake
from cvx_core.tasks.classification.mistakes import Misclassified
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.prediction import Prediction


def sees_red() -> VisionModel:
    """Return a network with z_plain = 2 and z_red = 200 times the mean of max(r - g - 0.3, 0)."""
    redness, score = nn.Conv2d(3, 1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        redness.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
        redness.bias.fill_(-0.3)  # type: ignore[union-attr]
        score.weight.copy_(torch.tensor([[0.0], [200.0]]))
        score.bias.copy_(torch.tensor([2.0, 0.0]))
    layers = (redness, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), score)
    return VisionModel(nn.Sequential(*layers), classes=("plain", "red"), name="sees-red")


def picture() -> Tensor:
    """Return a grey picture (1, 3, 64, 64) with a red square."""
    grey = torch.full((1, 3, 64, 64), 0.5)
    grey[0, :, 20:32, 36:48] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return grey


@dataclass(frozen=True, eq=False)
class RightAtFirst(Mistake):
    """Judges as another error does, but calls no answer right after the first few."""

    judged: Callable[[Prediction], Judgement]
    rights: list[Judgement] = field(default_factory=list)
    most: int = 1

    def judge(self, prediction: Prediction) -> Judgement:
        """Return what the other says, as long as it is believed."""
        found = self.judged(prediction)
        if not found.right:
            return found
        self.rights.append(found)
        return Judgement(found.margin, len(self.rights) <= self.most, found.note)


@pytest.mark.parametrize(("most", "fixed"), [(1, False), (1000, True)])
def test_a_fix_is_one_only_if_the_answer_is_right_again(most: int, fixed: bool) -> None:
    model = sees_red()
    [image] = model.prepare(picture())
    passes = PassCounter(model)
    with passes.attach():
        [prediction] = model.predictions(model.output(image.tensor[None]), [image.frame])
        assert isinstance(prediction, ClassificationPrediction)
        mistake = Misclassified.between(prediction, "red", "plain")
        known = {name: getattr(mistake, name) for name in Mistake.__dataclass_fields__}
        doubtful = RightAtFirst(**known, judged=mistake.judge, most=most)
        runner = PerturbationRunner(model, image, doubtful, prediction, passes, 60)
        search = Search(runner, margin_map(runner, runner.inputs))
        search.run(1.0)
        assert any(one.right for one in search.perturbations)
        assert (find_fix(search, [], FILLS) is not None) == fixed


def test_no_more_images_run_together_than_memory_allows() -> None:
    model, together = sees_red(), [0]
    each = Layout.of(model, picture()).bytes_per_image

    def largest(_module: Any, args: tuple[Any, ...]) -> None:
        together.append(len(args[0]))

    model.module.register_forward_pre_hook(largest)
    why(model, picture(), "plain")
    assert max(together) > 3
    together.clear()
    why(model, picture(), "plain", memory=3 * each)
    assert max(together) == 3


def test_what_another_thread_runs_is_not_counted() -> None:
    model = sees_red()
    with PassCounter(model).attach() as passes:
        other = threading.Thread(target=model.logits, args=(picture(),))
        other.start()
        other.join()
        assert passes.images == 0
        model.logits(picture())
        assert passes.images == 1
    model.logits(picture())
    assert passes.images == 1
