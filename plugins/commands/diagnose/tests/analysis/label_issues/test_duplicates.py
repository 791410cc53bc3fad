"""Near duplicates with different labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cvx_diagnose import diagnose
from cvx_engine.local import Local
from PIL import Image

from cvx_core import VisionModel


def test_compressed_and_smaller_copies_with_another_label_are_found_and_nothing_else(
    model: VisionModel, tree: Callable[..., Path], tmp_path: Path
) -> None:
    data = tree(4)
    for path in data.glob("*/*.png"):  # blocks, as noise does not survive compression
        Image.open(path).resize((6, 5)).resize((96, 80), Image.Resampling.NEAREST).save(path)
    image = Image.open(data / "ant" / "0.png")
    image.save(data / "bee" / "compressed.jpg", quality=90)
    Image.open(data / "cat" / "1.png").resize((60, 50)).save(data / "dog" / "smaller.png")
    image.save(data / "ant" / "same-label.jpg", quality=80)
    # A copy of the same bytes is a conflict, and not a near duplicate.
    (data / "eel" / "copy.png").write_bytes((data / "dog" / "0.png").read_bytes())
    run = diagnose(model, data, tmp_path / "run", budget=0, engine=Local(workers=1))
    assert run.summary is not None
    issues = run.summary["label_issues"]
    near = {tuple(sorted(one["paths"])) for one in issues["near_duplicates"]}
    assert near == {
        ("ant/0.png", "bee/compressed.jpg"),
        ("ant/same-label.jpg", "bee/compressed.jpg"),
        ("cat/1.png", "dog/smaller.png"),
    }
    assert [one["paths"] for one in issues["conflicts"]] == [["dog/0.png", "eel/copy.png"]]
    texts = [one["text"] for one in run.summary["advice"] if one["kind"] == "relabel"]
    assert any(text.startswith("3 pairs of images are nearly the same") for text in texts)
    assert all(one["likeness"] == pytest.approx(1, abs=0.03) for one in issues["near_duplicates"])
