"""The numbers of Quantus, where its definitions are the papers'; by hand, where they are not.

Written against Quantus 0.6.0 (Hedström et al. 2023). What it does otherwise, and who is right, is
in docs/explanation/faithfulness.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from cvx_score import completeness, deletion, impute, pointing, rank_accuracy, relevance_mass, road
from cvx_score.checks.randomization import Trial
from torch import nn

from cvx_core import VisionModel

quantus = pytest.importorskip("quantus")

COUNT, SIDE = 4, 28


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 6),
    ).eval()


def images(channels: int = 1) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(0).normal(size=(COUNT, channels, SIDE, SIDE))
    return drawn.astype(np.float32)


def maps() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).random((COUNT, 1, SIDE, SIDE)).astype(np.float32)


def masks() -> npt.NDArray[np.bool_]:
    found = np.zeros((COUNT, 1, SIDE, SIDE), dtype=bool)
    for i in range(COUNT):
        found[i, 0, 3 * i : 3 * i + 9, 4 : 20 - i] = True
    return found


def ask(metric: Any, net: nn.Module, **more: Any) -> Any:
    classes = classes_of(net)
    given = {"x_batch": images(), "y_batch": classes, "a_batch": maps(), **more}
    return metric(model=net, **given)


def classes_of(net: nn.Module) -> npt.NDArray[np.int64]:
    with torch.no_grad():
        return net(torch.from_numpy(images())).argmax(1).numpy()


def test_deletion_is_pixel_flipping_with_the_image_itself_before_it(net: nn.Module) -> None:
    flip = quantus.PixelFlipping(
        features_in_step=28, perturb_baseline=0.0, normalise=False, disable_warnings=True
    )
    theirs = np.array(ask(flip, net))
    classes = [int(c) for c in classes_of(net)]
    ours = deletion(
        VisionModel(net), torch.from_numpy(images()), maps(), classes, steps=28, within=0
    )
    # Both in float32 through one network, in batches of other sizes.
    np.testing.assert_allclose(ours.values[:, 1:], theirs, atol=1e-6)
    # Its curve lacks the image as it was, which Petsiuk's area begins with.
    with torch.no_grad():
        whole = net(torch.from_numpy(images())).softmax(1).numpy()
    curve = np.concatenate([whole[range(COUNT), classes][:, None], theirs], axis=1)
    area = (curve.sum(1) - curve[:, 0] / 2 - curve[:, -1] / 2) / 28
    np.testing.assert_allclose(ours.scores, area, atol=1e-6)


def test_imputation_solves_the_equations_of_road(net: nn.Module) -> None:
    from quantus.functions.perturb_func import noisy_linear_imputation

    image, order = images(3)[0], np.argsort(-maps()[0].ravel())
    for share in (0.1, 0.5, 0.9):
        chosen = order[: int(share * SIDE * SIDE)]
        theirs = noisy_linear_imputation(arr=image.astype(np.float64), indices=chosen, noise=0.0)
        mask = np.zeros(SIDE * SIDE, dtype=bool)
        mask[chosen] = True
        removed = torch.from_numpy(mask).view(1, SIDE, SIDE)
        ours = impute(torch.from_numpy(image.astype(np.float64))[None], removed, tolerance=1e-11)
        np.testing.assert_allclose(ours[0].numpy(), theirs, atol=1e-9)


def test_road_s_accuracy_is_theirs(net: nn.Module) -> None:
    percent = [5, 10, 30, 50, 70, 90]
    metric = quantus.ROAD(percentages=percent, noise=0.0, normalise=False, disable_warnings=True)
    theirs = ask(metric, net)
    ours = road(
        VisionModel(net),
        torch.from_numpy(images()),
        maps(),
        [int(c) for c in classes_of(net)],
        shares=[p / 100 for p in percent],
        noise=0.0,
    )
    assert ours.accuracy is not None
    assert ours.accuracy.tolist() == [theirs[p] for p in percent]
    assert 0 < ours.accuracy.mean() < 1, "an accuracy that never changes would prove nothing"


def test_road_s_accuracy_is_that_of_all_images_and_theirs_of_the_first_batch(
    net: nn.Module,
) -> None:
    settings = {"noise": 0.0, "normalise": False, "disable_warnings": True}
    theirs = ask(quantus.ROAD(percentages=[30], **settings), net, batch_size=1)
    one_by_one = [
        road(
            VisionModel(net),
            torch.from_numpy(images()[i : i + 1]),
            maps()[i],
            int(classes_of(net)[i]),
            shares=[0.3],
            noise=0.0,
        ).accuracy
        for i in range(COUNT)
    ]
    assert theirs[30] == one_by_one[0]
    assert len({float(accuracy[0]) for accuracy in one_by_one if accuracy is not None}) == 2


def test_road_takes_images_in_colour_where_theirs_looks_beyond_the_mask() -> None:
    torch.manual_seed(0)
    colour = nn.Sequential(nn.Conv2d(3, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    metric = quantus.ROAD(percentages=[50], disable_warnings=True)
    with pytest.raises(IndexError):
        metric(model=colour, x_batch=images(3), y_batch=np.zeros(COUNT, int), a_batch=maps())
    ours = road(VisionModel(colour), torch.from_numpy(images(3)), maps(), 0)
    assert np.isfinite(ours.values).all()


def test_the_pointing_game_is_theirs_without_tolerance(net: nn.Module) -> None:
    theirs = ask(quantus.PointingGame(disable_warnings=True), net, s_batch=masks())
    with_peak = maps()
    with_peak[:2, 0, 5, 6] = 2.0
    theirs += ask(
        quantus.PointingGame(disable_warnings=True), net, a_batch=with_peak, s_batch=masks()
    )
    ours = [
        pointing(one[0], mask[0], tolerance=0)
        for values in (maps(), with_peak)
        for one, mask in zip(values, masks(), strict=True)
    ]
    assert ours == [float(hit) for hit in theirs]
    assert set(ours) == {0.0, 1.0}


def test_of_several_highest_pixels_they_take_the_best_and_the_paper_takes_one(
    net: nn.Module,
) -> None:
    everywhere = np.ones((COUNT, 1, SIDE, SIDE), dtype=np.float32)
    everywhere[:, 0, :2] = 0
    theirs = ask(
        quantus.PointingGame(disable_warnings=True), net, a_batch=everywhere, s_batch=masks()
    )
    assert all(theirs)
    # A map that is nearly constant hits no more often than chance: 15 % of those pixels.
    ours = [pointing(everywhere[0, 0], masks()[0, 0], 0, seed=seed) for seed in range(100)]
    inside = masks()[0, 0, 2:].mean()
    assert np.mean(ours) == pytest.approx(inside, abs=3 * np.sqrt(inside / 100))


def test_mass_and_rank_are_theirs(net: nn.Module) -> None:
    mass = ask(
        quantus.RelevanceMassAccuracy(normalise=False, disable_warnings=True), net, s_batch=masks()
    )
    rank = ask(
        quantus.RelevanceRankAccuracy(normalise=False, disable_warnings=True), net, s_batch=masks()
    )
    pairs = list(zip(maps()[:, 0], masks()[:, 0], strict=True))
    np.testing.assert_allclose([relevance_mass(*pair) for pair in pairs], mass, rtol=1e-5)
    assert [rank_accuracy(*pair) for pair in pairs] == [float(one) for one in rank]


def test_of_signed_maps_their_mass_is_no_share_and_ours_is(net: nn.Module) -> None:
    signed = np.zeros((COUNT, 1, SIDE, SIDE), dtype=np.float32)
    signed[:, 0, 5, 6], signed[:, 0, 27, 27] = 3.0, -2.0
    metric = quantus.RelevanceMassAccuracy(normalise=False, disable_warnings=True)
    theirs = ask(metric, net, a_batch=signed, s_batch=masks())
    assert theirs[0] == pytest.approx(3 / (3 - 2))
    assert relevance_mass(signed[0, 0], masks()[0, 0]) == 1.0


def test_completeness_is_theirs_but_for_rounding() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 6)).eval()
    made = images() * net[1].weight.detach().numpy()[2].reshape(1, 1, SIDE, SIDE)
    classes = np.full(COUNT, 2)
    metric = quantus.Completeness(
        normalise=False, abs=False, perturb_baseline=0.0, disable_warnings=True
    )
    given = {"x_batch": images(), "y_batch": classes, "softmax": False}
    theirs = metric(model=net, a_batch=made, **given)
    ours = completeness(VisionModel(net), torch.from_numpy(images()), made, 2)
    # Exact but for float32, which equality of floats takes for a failure.
    assert not all(theirs)
    assert ours.scores.max() < 1e-5
    np.testing.assert_allclose(ours.sums, ours.differences, rtol=1e-5)
    assert completeness(VisionModel(net), torch.from_numpy(images()), 2 * made, 2).scores == (
        pytest.approx([0.5] * COUNT, abs=1e-5)
    )


def test_the_correlation_of_randomization_is_theirs() -> None:
    from quantus.functions.similarity_func import correlation_spearman

    one, other = maps()[0, 0].round(1), maps()[1, 0].round(1)
    theirs = correlation_spearman(one.ravel(), other.ravel())
    trial = Trial(one)
    trial.compare("all", np.stack([other, other]))
    assert trial.correlation["all"][0] == pytest.approx(theirs, abs=1e-12)
