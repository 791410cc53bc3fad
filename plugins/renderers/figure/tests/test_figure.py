"""Figures: what is in the picture, and that its bytes depend on nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from dataclasses import astuple
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from cvx_figure import fonts
from cvx_figure.captions import make_caption
from cvx_figure.figure import Figure
from cvx_figure.fonts import Fonts
from cvx_figure.layout import Layout, arrange, panel_size
from cvx_figure.sheet import checkerboard
from PIL import Image
from sample_predictions import sample_of_a_detector

import cvx_core
from cvx_core import CvxWarning, Explanation, OptionError, UsageError
from cvx_core.explanations.colormaps import INFERNO, VIK, color_table
from cvx_core.explanations.heatmap import show
from cvx_core.testing.samples import sample_explanation

FORMATS = ("png", "svg", "pdf")
HOSTILE = (
    r"$5 \foo$ ^_{x}",
    "\x1b[31mred\x00\x07",
    "مرحبا שלום \u202egnp.exe",
    "猫 😀 🦄 👩‍🚀",
    "x" * 300,
    "two\nlines\ttab",
    "<b>&amp;</b>]]>",
    "\udc80\ufffe\u2028",
    "",
)


def pixels(explanation: Explanation, **parameters: object) -> npt.NDArray[np.int16]:
    artifact = Figure(**parameters).render(explanation)  # type: ignore[arg-type]
    return np.asarray(Image.open(io.BytesIO(artifact.data)).convert("RGB")).astype(np.int16)


def layout_of(explanation: Explanation, width: float = 8.0, dpi: int = 150) -> Layout:
    size = explanation.image.shape[1], explanation.image.shape[0]
    text = make_caption(explanation, show(explanation, panel_size(size, width, dpi)))
    return arrange([size], [text], Fonts(astuple(text)), width, dpi)


def svg_text(explanation: Explanation | list[Explanation], **parameters: object) -> list[str]:
    artifact = Figure(format="svg", **parameters).render(explanation)  # type: ignore[arg-type]
    root = ElementTree.fromstring(artifact.data)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def grey_sample(values: npt.NDArray[np.float32], **fields: object) -> Explanation:
    """Return a map over a photograph of one grey, so that colours can be worked out by hand."""
    sample = sample_explanation(size=(200, 200), **fields)  # type: ignore[arg-type]
    return sample.replace(image=np.full((200, 200, 3), 100, np.uint8), values=values)


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_explanation_gives_the_same_bytes_in_another_process(format_: str) -> None:
    program = (
        "import hashlib; from cvx_figure.figure import Figure;"
        "from cvx_core.testing.samples import sample_explanation as sample;"
        f"data = Figure(format='{format_}').render([sample(), sample(seed=1)]).data;"
        "print(hashlib.sha256(data).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert len(digests) == 1


@pytest.mark.parametrize("format_", FORMATS)
def test_a_figure_holds_no_date_and_no_version(format_: str) -> None:
    data = Figure(format=format_).render(sample_explanation()).data  # type: ignore[arg-type]
    for word in (b"CreationDate", b"<dc:date>", b"Software", matplotlib.__version__.encode()):
        assert word not in data


def test_the_users_matplotlib_settings_neither_matter_nor_change() -> None:
    expected = Figure().render(sample_explanation()).data
    theirs: Any = {
        "font.size": 40.0,
        "text.usetex": True,
        "axes.facecolor": "red",
        "savefig.dpi": 20.0,
    }
    with matplotlib.rc_context(theirs):
        assert Figure().render(sample_explanation()).data == expected
        assert theirs.items() <= dict(matplotlib.rcParams).items()


@pytest.mark.parametrize(
    ("format_", "start", "media_type"),
    [
        ("png", b"\x89PNG", "image/png"),
        ("svg", b"<?xml", "image/svg+xml"),
        ("pdf", b"%PDF", "application/pdf"),
    ],
)
def test_suffix_and_media_type_follow_the_format(
    format_: str, start: bytes, media_type: str
) -> None:
    renderer = cvx_core.get_renderer("figure", format=format_)
    artifact = renderer.render(sample_explanation())
    assert (renderer.suffix, renderer.media_type) == (f".{format_}", media_type)
    assert (artifact.suffix, artifact.media_type) == (f".{format_}", media_type)
    assert artifact.data.startswith(start)


@pytest.mark.parametrize(("signed", "table"), [(True, VIK), (False, INFERNO)])
def test_the_overlay_has_the_maps_colour_where_it_is_strong_and_the_photograph_where_it_is_weak(
    signed: bool, table: npt.NDArray[np.uint8]
) -> None:
    values = np.zeros((2, 2), np.float32)
    values[0, 0] = 5.0
    explanation = grey_sample(values, signed=signed)
    box = layout_of(explanation).rows[0].overlay
    shown = pixels(explanation)[box.top : box.bottom, box.left : box.right]
    strongest = 0.15 * 100 + 0.85 * table[255]
    np.testing.assert_allclose(shown[5, 5], strongest, atol=1)
    np.testing.assert_array_equal(shown[-5, -5], [100, 100, 100])


def test_a_negative_value_is_drawn_from_the_other_end_of_the_signed_colours() -> None:
    explanation = grey_sample(np.array([[-5.0, 1.0]], np.float32))
    box = layout_of(explanation).rows[0].overlay
    shown = pixels(explanation)[box.top + 50, box.left + 5]
    np.testing.assert_allclose(shown, 0.15 * 100 + 0.85 * VIK[0], atol=1)


def test_the_map_is_drawn_only_where_the_network_looked_and_a_frame_says_so() -> None:
    explanation = grey_sample(np.full((1, 1), 5.0, np.float32), extent=(50, 100, 150, 180))
    row = layout_of(explanation).rows[0]
    picture = pixels(explanation)
    shown = picture[row.overlay.top : row.overlay.bottom, row.overlay.left : row.overlay.right]
    scale = row.overlay.width / 200
    frame = 4  # pixels on either side of the edge
    inside = shown[
        int(100 * scale) + frame : int(180 * scale) - frame,
        int(50 * scale) + frame : int(150 * scale) - frame,
    ]
    assert (inside == inside[0, 0]).all()
    assert (inside[0, 0] != 100).any()
    outside = np.ones(shown.shape[:2], bool)
    outside[
        int(100 * scale) - frame : int(180 * scale) + frame,
        int(50 * scale) - frame : int(150 * scale) + frame,
    ] = False
    assert (shown[outside] == 100).all()
    photo = picture[row.photo.top : row.photo.bottom, row.photo.left : row.photo.right]
    edge = photo[round(140 * scale), round(50 * scale) - 3 : round(50 * scale) + 4]
    assert edge.max() > 200
    assert "the white frame marks the network's input" in " ".join(svg_text(explanation))


def test_no_frame_is_drawn_where_the_network_saw_everything() -> None:
    explanation = grey_sample(np.zeros((2, 2), np.float32), extent=(-20, 0, 220, 200))
    row = layout_of(explanation).rows[0]
    picture = pixels(explanation)
    for box in (row.photo, row.overlay):
        assert (picture[box.top : box.bottom, box.left : box.right] == 100).all()
    assert "frame" not in " ".join(svg_text(explanation))


def test_the_box_asked_about_is_outlined_in_yellow_and_the_others_on_the_photograph_in_white() -> (
    None
):
    one = sample_of_a_detector()
    one = one.replace(
        image=np.full((240, 320, 3), 100, np.uint8), values=np.zeros((2, 2), np.float32)
    )
    row = layout_of(one).rows[0]
    picture = pixels(one)
    scale = row.photo.width / 320
    cat, dog = (one.target.reported[k].box for k in (0, 1))  # type: ignore[index]

    def edge(place: Any, box: tuple[float, ...]) -> npt.NDArray[np.int16]:
        """Return the brightest pixel across the middle of the left side of a box."""
        y = place.top + round((box[1] + box[3]) / 2 * scale)
        x = place.left + round(box[0] * scale)
        across = picture[y, x - 4 : x + 5]
        return across[across.sum(1).argmax()]

    for place in (row.photo, row.overlay):
        red, green, blue = edge(place, dog)
        assert red > 220
        assert green > 180
        assert blue < 60
    assert edge(row.photo, cat).min() > 180
    assert (edge(row.overlay, cat) == 100).all()


def test_the_colour_bar_fades_as_the_overlay_does() -> None:
    explanation = grey_sample(np.array([[-3.0, 3.0]], np.float32))
    bar = layout_of(explanation).rows[0].bar
    shown = pixels(explanation)[bar.top : bar.bottom, bar.left : bar.right]
    board = checkerboard(bar.width, bar.height)
    centre = slice(5, -5)
    # The fourth row from the end lies 2 % of the scale below it.
    np.testing.assert_allclose(shown[3, centre], 0.15 * board[3, centre] + 0.85 * VIK[255], atol=6)
    middle = bar.height // 2
    assert np.abs(shown[middle, centre] - board[middle, centre]).max() < 25


def test_the_colour_bar_of_a_map_without_negative_values_begins_at_zero() -> None:
    """In the colours of the whole scale: its lower end is the middle, where nothing is covered."""
    explanation = grey_sample(np.array([[1.0, 3.0]], np.float32))
    bar = layout_of(explanation).rows[0].bar
    shown = pixels(explanation)[bar.top : bar.bottom, bar.left : bar.right]
    board, centre = checkerboard(bar.width, bar.height), slice(5, -5)
    np.testing.assert_allclose(shown[3, centre], 0.15 * board[3, centre] + 0.85 * VIK[255], atol=6)
    assert np.abs(shown[-4, centre] - board[-4, centre]).max() < 25
    texts = svg_text(explanation)
    assert "\N{MINUS SIGN}3" not in texts
    assert "0" in texts


def test_the_words_say_method_question_answer_label_and_evidence() -> None:
    text = " ".join(svg_text(sample_explanation())).replace("\N{NO-BREAK SPACE}", " ")
    for phrase in (
        "sample: why power drill and not screwdriver?",
        "prediction: power drill 86.7 % · label: screwdriver 11.7 % · ✗ wrong",
        "sample.jpg, 320 \N{MULTIPLICATION SIGN} 240 pixels",
        "layer: layer4",
        "map of 7 \N{MULTIPLICATION SIGN} 7 positions",
        "residual 1.2e\N{MINUS SIGN}07",
        "25 % of the relevance has no spatial position",
        "logits",
    ):
        assert phrase in text
    right = " ".join(svg_text(sample_explanation(label=0))).replace("\N{NO-BREAK SPACE}", " ")
    assert "label: power drill 86.7 % · ✓ correct" in right


def test_the_caption_says_what_was_done_to_the_numbers() -> None:
    explanation = sample_explanation(cells=(100, 100))
    spiked = explanation.values.copy()
    spiked[0, :10] = 1000.0
    text = " ".join(svg_text(explanation.replace(values=spiked)))
    assert "smoothed for display (sigma 2.9 px)" in text
    assert "colour saturates" in text


def test_jet_is_drawn_when_asked_for_and_the_caption_warns() -> None:
    assert "jet is not perceptually uniform" in " ".join(
        svg_text(sample_explanation(), colormap="jet")
    )
    values = np.array([[5.0, 5.0]], np.float32)
    explanation = grey_sample(values, signed=False)
    box = layout_of(explanation).rows[0].overlay
    # jet ends in (0.5, 0, 0)
    np.testing.assert_allclose(
        pixels(explanation, colormap="jet")[box.top + 9, box.left + 9], [123, 15, 15], atol=1
    )


@pytest.mark.parametrize("first", HOSTILE)
@pytest.mark.parametrize("format_", FORMATS)
def test_hostile_names_are_drawn_without_a_warning(
    first: str, format_: str, caplog: pytest.LogCaptureFixture
) -> None:
    explanation = sample_explanation(classes=(first, *HOSTILE)).replace(
        name=first, unit=first, method=first
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", CvxWarning)  # no font may have the letters
        Figure(format=format_, dpi=40).render(explanation)  # type: ignore[arg-type]
    assert not caplog.records


@pytest.mark.parametrize("first", HOSTILE)
@pytest.mark.parametrize("size", [(60, 300), (300, 60)])
def test_nothing_runs_out_of_the_figure_or_into_a_picture(
    first: str, size: tuple[int, int]
) -> None:
    explanation = sample_explanation(classes=(first, *HOSTILE), size=size, label=4).replace(
        name=first * 9, unit=(first + " ") * 9, method=first
    )
    picture = pixels(explanation, dpi=75)
    rim = 12  # pixels of the margin, which measures 16
    for side in (picture[:rim], picture[-rim:], picture[:, :rim], picture[:, -rim:]):
        assert (side == 255).all()
    row = layout_of(explanation, dpi=75).rows[0]
    boxes = [row.photo, row.overlay, row.bar]
    for line in row.lines:
        height = line.style.size * 75 / 72
        assert all(
            line.baseline + 0.25 * height < box.top or line.baseline - height > box.bottom
            for box in boxes
        )
    for one, other in ((row.photo, row.overlay), (row.overlay, row.bar), (row.photo, row.bar)):
        assert one.right <= other.left or one.bottom <= other.top


def test_a_hostile_name_stands_in_the_svg_letter_by_letter() -> None:
    names = (r"$5 \foo$ ^_{x}", "<b>&amp;</b>]]> 猫 😀", "\x1b[31mred")
    text = " ".join(svg_text(sample_explanation(classes=names, label=1)))
    assert names[0] in text
    assert names[1] in text
    text = " ".join(svg_text(sample_explanation(classes=names[::-1], label=None)))
    assert r"why \x1b[31mred?" in text


def test_a_number_stays_behind_a_name_that_reads_from_right_to_left() -> None:
    text = " ".join(svg_text(sample_explanation(classes=("قطة", "b", "c"))))
    assert "prediction: قطة\N{LEFT-TO-RIGHT MARK} 86.7 %" in text


def test_two_long_names_are_cut_and_both_stay_in_the_title() -> None:
    title = svg_text(sample_explanation(classes=("a" * 300, "b" * 300, "c")))
    joined = "".join(title)
    assert "a" * 50 in joined
    assert "b" * 50 in joined
    assert "a" * 100 not in joined


def test_several_explanations_become_the_rows_of_one_figure() -> None:
    one = sample_explanation()
    several = [one, sample_explanation(size=(100, 300)).replace(method="other")]
    tall, short = (
        Image.open(io.BytesIO(Figure().render(given).data)).height for given in (several, [one])
    )
    assert tall > 2 * short
    text = svg_text(several)
    assert any(line.startswith("sample: ") for line in text)
    assert any(line.startswith("other: ") for line in text)


@pytest.mark.parametrize("size", [(212, 320), (320, 212), (240, 240), (8, 8), (900, 40), (40, 900)])
def test_the_photograph_keeps_its_proportions(size: tuple[int, int]) -> None:
    width, height = panel_size(size, 8.0, 150)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.05)


def test_the_figure_is_no_wider_than_asked() -> None:
    for width in (4, 8, 15.5):
        picture = pixels(sample_explanation(), width=width, dpi=100)
        assert picture.shape[1] <= 100 * width


def test_a_figure_too_large_for_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="2 explanations would have"):
        Figure(width=40, dpi=1200).render([sample_explanation()] * 2)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"format": "pgn"}, "Did you mean 'png'"),
        ({"format": "jpg"}, "Did you mean 'png'"),
        ({"colormap": "infreno"}, "Did you mean 'inferno'"),
        ({"colormap": "vick"}, "'vik'"),
        ({"dpi": 0}, "dpi must be a number from 30 to 1200"),
        ({"dpi": 99.5}, "must be an integer"),
        ({"dpi": True}, "dpi"),
        ({"width": float("nan")}, "width"),
        ({"width": "wide"}, "width"),
        ({"opacity": 2}, "opacity"),
        ({"smooth": -1}, "smooth"),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_the_way_out(
    parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        Figure(**parameters)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_drawing_imports_neither_pyplot_nor_torch_and_writes_nothing_to_stderr() -> None:
    program = (
        "import sys, warnings; from cvx_core import CvxWarning;"
        "warnings.simplefilter('ignore', CvxWarning);"  # no font may have the letter
        "from cvx_figure.figure import Figure;"
        "from cvx_core.testing.samples import sample_explanation as sample;"
        "[Figure(format=f, colormap='cmc.batlow').render(sample(classes=('猫 🦄', 'b', 'c')))"
        " for f in ('png', 'svg', 'pdf')];"
        "print(sorted({'matplotlib.pyplot', 'torch', 'cmcrameri'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_plugin_module_is_light() -> None:
    program = (
        "import sys, cvx_figure.plugin;"
        "print(sorted({'matplotlib', 'numpy', 'torch', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_title_caption_and_image_can_be_left_out() -> None:
    def drawn(**parameters: Any) -> str:
        renderer = cvx_core.get_renderer("figure", format="svg", **parameters)
        return renderer.render(sample_explanation()).text()

    whole, bare = drawn(), drawn(title=False, caption=False, original=False)
    assert "prediction: power drill" in whole
    assert "positions" in whole
    assert "prediction: power drill" not in bare
    assert "positions" not in bare
    assert (whole.count("<image"), bare.count("<image")) == (3, 2)  # with the color bar
    assert "prediction: power drill" in drawn(caption=False)
    assert "positions" in drawn(title=False)
    with pytest.raises(OptionError, match="title must be true or false, got 3"):
        cvx_core.get_renderer("figure", title=3)


def test_the_bar_of_a_sequential_color_map_has_all_of_its_colors() -> None:
    one = sample_explanation()
    positive = one.replace(values=np.abs(one.values))
    renderer = cvx_core.get_renderer("figure", colormap="viridis", original=False)
    with Image.open(io.BytesIO(renderer.render(positive).data)) as opened:
        seen = np.asarray(opened.convert("RGB")).reshape(-1, 3).astype(int)
    # The strongest value is drawn with 85 % of the last color, over the light or dark square.
    strongest = 0.85 * color_table("viridis")[255].astype(float)
    expected = [strongest + 0.15 * grey for grey in (205, 245)]
    assert min(np.abs(seen - one).sum(1).min() for one in expected) <= 6


def test_the_renderer_of_a_suffix_writes_that_format() -> None:
    assert {Figure.for_suffix(s).suffix for s in Figure.suffixes()} == {".png", ".svg", ".pdf"}  # type: ignore[union-attr]
    assert Figure.for_suffix(".jpg") is None


def test_a_label_without_glyphs_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only DejaVu Sans and the font of last resort are installed, which has boxes for scripts."""
    monkeypatch.setattr(fonts, "_covered", lambda name: has.get(name, frozenset()))
    monkeypatch.setattr(fonts, "_upright", lambda: dict.fromkeys(has, ""))
    fonts._warn_once.cache_clear()
    latin = frozenset(map(ord, "photo.jpg"))
    for last in (latin | {ord("\N{CJK UNIFIED IDEOGRAPH-72D0}")}, frozenset[int]()):
        has = {fonts.BASE: latin, fonts._LAST: last}
        with warnings.catch_warnings(record=True, action="always") as said:
            Fonts(["photo.jpg", "\N{CJK UNIFIED IDEOGRAPH-72D0}"])
            Fonts(["\N{CJK UNIFIED IDEOGRAPH-72D0}" * 2])
        [one] = said
        assert issubclass(one.category, CvxWarning)
        assert "No installed font has the CJK characters" in str(one.message)
        assert "fonts-noto-cjk" in str(one.message)
        fonts._warn_once.cache_clear()
    has["Other"] = frozenset([ord("\N{CJK UNIFIED IDEOGRAPH-72D0}")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Fonts(["\N{CJK UNIFIED IDEOGRAPH-72D0}"])
