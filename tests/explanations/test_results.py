"""Lists of explanations and artifacts, as they show themselves."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cvx_core import Artifact, Explanations, load_explanations
from cvx_core.explanations.explanation import to_npz
from cvx_core.testing.samples import sample_explanation

LONGEST = 100


def test_a_list_shows_the_overlays_and_stays_a_list() -> None:
    both = Explanations([sample_explanation(), sample_explanation(name="other.jpg")])
    assert both._repr_html_().count("<img") == 2
    assert repr(both) == "<2 explanations of 2 images: sample>"
    assert repr(both[:1] + both[1:]) == repr(both)
    assert isinstance(both[:1], Explanations)
    assert both == list(both)
    assert pickle.loads(pickle.dumps(both)) == both
    assert repr(Explanations()) == "<0 explanations>"


def test_a_long_list_shows_some_and_says_how_many_more() -> None:
    one = sample_explanation(size=(8, 8), cells=(2, 2))
    shown = Explanations([one] * 30)._repr_html_()
    assert shown.count("<img") == 24
    assert "6 more" in shown


def test_no_text_is_longer_than_a_line() -> None:
    long = sample_explanation(method="m" * 300, name="n" * 300)
    for thing in (long, Explanations([long] * 9), Artifact(".png", "image/png", b"x" * 10**6)):
        assert len(repr(thing)) <= LONGEST
        assert "\n" not in repr(thing)


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("image/png", b"\x89PNG", "iVBORw=="),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
    ],
)
def test_an_artifact_that_is_an_image_is_shown(kind: str, data: bytes, shown: str) -> None:
    bundle = Artifact(".x", kind, data)._repr_mimebundle_()
    assert bundle == {"text/plain": "<Artifact .x, 1 kB>", kind: shown}


def test_a_page_is_shown_in_a_frame_of_its_own_and_data_as_a_line() -> None:
    page = Artifact(".html", "text/html", b'<p id="a">1 < 2</p>')._repr_mimebundle_()
    assert '<iframe srcdoc="&lt;p id=&quot;a&quot;&gt;1 &lt; 2&lt;/p&gt;"' in page["text/html"]
    assert 'sandbox="allow-scripts"' in page["text/html"]
    data = Artifact(".json", "application/json", b"{}" * 10**6)._repr_mimebundle_()
    assert data == {"text/plain": "<Artifact .json, 2.0 MB>"}


def test_saved_explanations_come_back_as_a_list_of_this_kind(tmp_path: Path) -> None:
    one = sample_explanation()
    (tmp_path / "a.npz").write_bytes(to_npz([one, one]))
    found = load_explanations(tmp_path / "a.npz")
    assert isinstance(found, Explanations)
    assert found == [one, one]
