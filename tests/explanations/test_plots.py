"""Plots in axes of one's own, and comparisons on one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import cvx_core as cvx
from cvx_core import Explanation, OptionError, OutputError, UsageError
from cvx_core.explanations.plots import differences
from cvx_core.testing.samples import sample_explanation

mpl.use("Agg")


def of(values: Any, **fields: Any) -> Explanation:
    return sample_explanation(size=(64, 48)).replace(
        values=np.asarray(values, np.float32), extent=(0, 0, 64, 48), **fields
    )


def pixels(ax: Any) -> Any:
    return ax.images[0].get_array()


def test_a_plot_goes_into_the_axes_that_are_given_in_pixels_of_the_image() -> None:
    one, ax = sample_explanation(), Figure().subplots()
    assert one.plot(ax) is ax
    assert ax.get_xlim() == (0, 320)
    assert ax.get_ylim() == (240, 0)
    assert ax.get_title() == one.title
    np.testing.assert_array_equal(pixels(ax), np.asarray(one.overlay()))
    [bar] = ax.child_axes
    assert bar.get_ylabel() == "logits"


def test_title_caption_and_bar_can_be_left_out_and_the_image_drawn_alone() -> None:
    one = sample_explanation()
    bare = one.plot(Figure().subplots(), title=False, colorbar=False)
    assert (bare.get_title(), bare.get_xlabel(), bare.child_axes) == ("", "", [])
    said = one.plot(Figure().subplots(), title="mine $5", caption=True, original=True)
    assert said.get_title() == r"mine \$5"
    assert said.get_xlabel() == "prediction: power drill 86.7 %\nlabel: screwdriver 11.7 %"
    np.testing.assert_array_equal(pixels(said), one.image)


def test_without_axes_pyplot_makes_them() -> None:
    from matplotlib import pyplot

    ax = sample_explanation().plot(colormap="turbo", alpha=0.5)
    assert ax.figure.number in pyplot.get_fignums()
    expected = np.asarray(sample_explanation().overlay("turbo", 0.5))
    np.testing.assert_array_equal(pixels(ax), expected)
    pyplot.close(ax.figure)


def test_what_is_compared_has_one_scale() -> None:
    weak, strong = of([[1.0, -1.0]]), of([[4.0, -2.0]])
    made = cvx.compare([weak, strong], titles=["a", "b"])
    image, left, right = made.figure.axes[:3]
    assert (image.get_title(), left.get_title(), right.get_title()) == ("sample.jpg", "a", "b")
    [bar] = [child for ax in made.figure.axes for child in ax.child_axes]
    assert bar.get_ylim() == (-4.0, 4.0)
    # The same value has the same color in both: 1 of at most 4 on the left.
    quarter = np.asarray(of([[1.0, -1.0]]).overlay())
    assert not np.array_equal(pixels(left), quarter)
    np.testing.assert_array_equal(pixels(right), np.asarray(strong.overlay()))


def test_other_units_and_other_grids_have_scales_of_their_own() -> None:
    made = cvx.compare([of([[1.0]]), of([[2.0]], unit="metres"), of([[3.0, 1.0]]), of([[4.0]])])
    bars = [child for ax in made.figure.axes for child in ax.child_axes]
    assert [bar.get_ylim()[1] for bar in bars] == [2.0, 3.0, 4.0]
    assert [bar.get_ylabel() for bar in bars] == ["metres", "logits", "logits"]


def test_titles_name_what_differs() -> None:
    given = {"model": "lab:net", "parameters": {"layer": "a", "k": 1}}
    one = of([[1.0]], provenance={**given, "weights_sha256": "12345678ab"})
    weights = one.replace(provenance={**one.provenance, "weights_sha256": "87654321ab"})
    assert differences([one, weights]) == ["weights 12345678", "weights 87654321"]
    named = [
        of([[1.0]], provenance={**given, "weights_sha256": w, "model_details": {"weights": w}})
        for w in ("first.pth", "last.pth")
    ]
    assert differences(named) == ["first.pth", "last.pth"]
    layer = one.replace(provenance={**one.provenance, "parameters": {"layer": "b", "k": 1}})
    assert differences([one, layer]) == ["layer=a", "layer=b"]
    other = layer.replace(method="other")
    assert differences([one, other]) == ["sample", "other"]
    model = weights.replace(provenance={**weights.provenance, "model": "lab:other"})
    assert differences([one, model]) == ["lab:net", "lab:other"]
    assert differences([one, one]) == ["", ""]


def test_a_comparison_is_saved_in_the_format_of_the_suffix(tmp_path: Path) -> None:
    made = cvx.compare([of([[1.0]]), of([[2.0]])])
    path = made.save(tmp_path / "both.png")
    with Image.open(path) as opened:
        assert opened.format == "PNG"
    assert made.save(tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")
    assert made._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match=r"can't be written as \.doc"):
        made.save(tmp_path / "both.doc")
    with pytest.raises(OutputError):
        made.save(path)


def test_explanations_are_given_one_by_one_or_in_lists() -> None:
    one, other = of([[1.0]]), of([[2.0]])
    assert cvx.compare(one, other).explanations == (one, other)
    assert cvx.compare([one], other, [other, one]).explanations == (one, other, other, one)


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="two or more explanations, got 1"):
        cvx.compare([of([[1.0]])])
    for arguments in ((object(), "cat.jpg", ["one", "two"]), (of([[1.0]]), 3), (3,)):
        with pytest.raises(UsageError, match=r"Write compare\(explain\(model, image, "):
            cvx.compare(*arguments)
    with pytest.raises(UsageError, match="takes explanations, got str"):
        cvx.compare(["one", "two"])
    with pytest.raises(UsageError, match="2 explanations and 1 titles"):
        cvx.compare([of([[1.0]])] * 2, titles=["a"])


def test_without_matplotlib_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvx_core.explanations.plots.optional_module", lambda name: None)
    with pytest.raises(OptionError, match="pip install matplotlib"):
        sample_explanation().plot()
    with pytest.raises(OptionError, match="pip install matplotlib"):
        cvx.compare([of([[1.0]])] * 2)
