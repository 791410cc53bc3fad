"""Conformance kit of renderers."""

from __future__ import annotations

import copy
import json
import pickle
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cvx_core.api import get_renderer
from cvx_core.errors import UsageError
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.renderer import Renderer
from cvx_core.explanations.results import Artifact
from cvx_core.testing.kits.base import Conformance
from cvx_core.testing.samples import sample_explanation

HOSTILE = {
    "mathematics": r"$5 \foo$ \frac{1}{0} ^_{}",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)> & ' \" </script><!--",
    "control characters": "a\tb\nc\rd\x00e\x07f\x1b[31mg\x1b]0;title\x07\x7f\x9b31m",
    "right to left": "مرحبا \u202eabc\u202c שלום",
    "emoji": "👩‍👩‍👧‍👦 🇺🇳 e\u0301 \u200b\ufeff",
    "half a surrogate": "a\ud800b",
    "very long": "longname" * 200,
    "empty": "",
    "blank": "   ",
    "format": "{0} %s %(x)s {{}} ${HOME} `id`",
    "markdown": "[bold red]x[/] **x** [x](http://example.org) | x |",
    "path": "../../etc/passwd",
}

SAMPLES: dict[str, dict[str, Any]] = {
    "landscape": {"size": (320, 240)},
    "portrait": {"size": (240, 320)},
    "panorama": {"size": (900, 60)},
    "column": {"size": (60, 900)},
    "tiny": {"size": (3, 2), "cells": (2, 2)},
    "one pixel": {"size": (1, 1), "cells": (1, 1)},
    "one cell": {"cells": (1, 1)},
    "pixel map": {"cells": (224, 224), "size": (256, 256)},
    "more cells than pixels": {"cells": (64, 64), "size": (16, 16)},
    "unsigned": {"signed": False},
    "no label": {"label": None},
    "beyond the image": {"size": (100, 50), "extent": (0.0, -25.0, 100.0, 75.0)},
    "outside the image": {"size": (50, 50), "extent": (90.0, 90.0, 99.0, 99.0)},
    "no metadata": {"evidence": {}, "provenance": {}, "unit": "", "name": ""},
    "odd metadata": {"evidence": {"nan": float("nan"), "list": [1, {"x": None}], "text": "a\nb"}},
}


class RendererConformance(Conformance):
    """Checks of a renderer; see `Conformance` for the attributes."""

    kind: ClassVar[str] = "renderer"

    def renderer(self) -> Renderer:
        """Return the renderer under test."""
        return get_renderer(self.component, **self.parameters)

    def render(self, *explanations: Explanation) -> Artifact:
        """Render and check what every artifact must be."""
        renderer = self.renderer()
        artifact = renderer.render(list(explanations))
        assert isinstance(artifact, Artifact)
        assert artifact.suffix == renderer.suffix
        assert artifact.media_type == renderer.media_type
        assert isinstance(artifact.data, bytes)
        assert artifact.data
        check_format(artifact)
        return artifact

    def test_suffix_and_media_type_are_well_formed(self) -> None:
        """They become part of file names and of HTTP headers."""
        renderer = self.renderer()
        assert re.fullmatch(r"(\.[a-z0-9]+)+", renderer.suffix)
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; ?charset=utf-8)?", renderer.media_type)

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_images_and_maps_of_any_shape_are_rendered(self, sample: str) -> None:
        """Portrait, landscape, tiny, padded, unsigned, without label."""
        self.render(sample_explanation(**SAMPLES[sample]))

    @pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-30, 1e30, 3.4e38])
    def test_constant_maps_of_any_magnitude_are_rendered(self, value: float) -> None:
        """A zero map is a result too."""
        one = sample_explanation()
        self.render(one.replace(values=np.full((3, 4), value, np.float32)))

    @pytest.mark.parametrize("label", HOSTILE)
    def test_hostile_text_is_only_text(self, label: str) -> None:
        """Class names, file names and targets may hold anything."""
        text = HOSTILE[label]
        one = sample_explanation(
            classes=(text, text + "2", "plain"),
            name=text,
            unit=text,
            method=text or "method",
            provenance={"layer": text, "parameters": {text: text}},
            evidence={text: text},
        )
        artifact = self.render(one)
        if "html" in artifact.media_type or "xml" in artifact.media_type:
            shown = artifact.data.decode()
            assert "<script>alert" not in shown
            assert "<img src=x" not in shown
        if artifact.media_type.startswith("text/plain"):
            # Colours are escape sequences too, but only those that set a style may be there.
            rest = re.sub(r"\x1b\[[0-9;:]*m", "", artifact.data.decode())
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", rest)

    def test_one_and_several_are_rendered(self) -> None:
        """In one artifact each."""
        several = [sample_explanation(seed=i, method=f"method-{i}") for i in range(3)]
        assert self.render(*several).data != self.render(several[0]).data
        assert self.renderer().render(several[0]) == self.renderer().render([several[0]])

    def test_explanations_of_different_images_are_rendered_together(self) -> None:
        """Sizes, names and targets may differ."""
        self.render(*(sample_explanation(**fields) for fields in SAMPLES.values()))

    def test_nothing_to_render_is_a_usage_error(self) -> None:
        """Rather than an empty file."""
        with pytest.raises(UsageError):
            self.renderer().render([])

    def test_the_same_explanations_give_the_same_bytes(self) -> None:
        """No dates, no random identifiers, no addresses."""
        several = sample_explanation(), sample_explanation(seed=1, signed=False)
        assert self.render(*several).data == self.render(*copy.deepcopy(several)).data

    def test_different_maps_give_different_bytes(self) -> None:
        """The map is in there."""
        assert (
            self.render(sample_explanation(seed=0)).data
            != self.render(sample_explanation(seed=1)).data
        )

    def test_explanations_are_left_as_they_were(self) -> None:
        """A renderer only reads."""
        several = [sample_explanation(), sample_explanation(seed=1)]
        before = copy.deepcopy(several)
        self.render(*several)
        assert several == before

    def test_nothing_is_written_or_printed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """The caller writes the artifact."""
        monkeypatch.chdir(tmp_path)
        self.render(sample_explanation())
        assert list(tmp_path.iterdir()) == []
        assert capfd.readouterr().out == ""

    def test_threads_do_not_meet(self) -> None:
        """Drawing uses no global state."""
        several = [sample_explanation(seed=seed) for seed in range(4)]
        expected = [self.render(one).data for one in several]
        with ThreadPoolExecutor(4) as threads:
            assert [a.data for a in threads.map(self.render, several)] == expected

    def test_it_survives_pickling(self) -> None:
        """For other processes and machines."""
        renderer: Renderer = pickle.loads(pickle.dumps(self.renderer()))
        assert renderer.render(sample_explanation()) == self.render(sample_explanation())

    def test_a_parameter_that_it_does_not_take_is_refused(self) -> None:
        """Nothing is swallowed."""
        with pytest.raises(UsageError, match="no_such_parameter_of_ours"):
            get_renderer(self.component, **self.parameters, no_such_parameter_of_ours=1)


def check_format(artifact: Artifact) -> None:
    """Read the artifact back where its media type is one that the standard library reads."""
    kind, data = artifact.media_type.partition(";")[0], artifact.data
    if kind == "application/json":
        json.loads(data, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    elif kind == "image/svg+xml":
        ElementTree.fromstring(data)
    elif kind == "application/pdf":
        assert data.startswith(b"%PDF-")
    elif kind.startswith("image/"):
        with Image.open(BytesIO(data)) as image:
            image.load()
    elif kind.startswith("text/"):
        data.decode("utf-8")
    elif artifact.suffix == ".npz":
        assert zipfile.ZipFile(BytesIO(data)).testzip() is None
