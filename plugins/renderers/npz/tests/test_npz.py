from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from cvx_npz.renderer import Npz

from cvx_core.errors import UsageError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.results import load_explanations
from cvx_core.testing.samples import sample_explanation


def _run() -> list[Explanation]:
    return [
        sample_explanation(method="one"),
        sample_explanation(method="two", cells=(5, 9), signed=False, seed=1),
        sample_explanation(size=(64, 48), name='sø "1"\n</script>\u202e🐱.jpg', label=None),
    ]


def test_the_archive_gives_back_equal_explanations(tmp_path: Path) -> None:
    path = Npz().render(_run()).write(tmp_path / "run")
    assert path.suffix == ".npz"
    assert load_explanations(path) == _run()


def test_numpy_opens_it_without_pickle_and_finds_exact_maps_and_readable_metadata() -> None:
    first, second, _ = _run()
    artifact = Npz().render(_run())
    with np.load(io.BytesIO(artifact.data), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["values_1"], second.values)
        assert arrays["values_1"].dtype == np.float32
        np.testing.assert_array_equal(arrays["image_0"], first.image)
        metadata = json.loads(str(arrays["metadata"]))
    assert metadata["schema"] == "cvx.explanations/1"
    assert [entry["method"] for entry in metadata["explanations"]] == ["one", "two", "sample"]


def test_a_photograph_that_several_maps_share_is_stored_once() -> None:
    with np.load(io.BytesIO(Npz().render(_run()).data), allow_pickle=False) as arrays:
        images = [name for name in arrays.files if name.startswith("image_")]
    assert sorted(images) == ["image_0", "image_1"]


def test_the_same_explanations_give_the_same_bytes() -> None:
    assert Npz().render(_run()).data == Npz().render(_run()).data


def test_nothing_to_render_is_an_error() -> None:
    with pytest.raises(UsageError, match="no explanation"):
        Npz().render([])
