"""Explanation: a map with its image, target, evidence and provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvx_core._util.files import write_atomic
from cvx_core._util.text import shortened
from cvx_core.errors import CvxError, OutputError
from cvx_core.explanations.heatmap import OPACITY, overlay
from cvx_core.explanations.metadata import Metadata
from cvx_core.explanations.notebook import explanation_html, overlay_png
from cvx_core.explanations.npz import SUFFIX, pack, unpack
from cvx_core.explanations.plots import plot
from cvx_core.images.regions import Extent
from cvx_core.images.resampling import resample
from cvx_core.plugins.renderers import renderer_for
from cvx_core.tasks.classes import TargetRecord


@dataclass(frozen=True, eq=False)
class Explanation:
    """A map, the image and target it belongs to, its evidence and its provenance.

    Attributes
    ----------
    values
        float32 (h, w): the map as the method's definition gives it, signed, unnormalised, at its
        native resolution (a layer's positions, or the pixels of the model's input). Read-only.
    extent
        The rectangle of `image` that `values` covers, in pixels of `image`.
    image
        uint8 (H, W, 3), RGB: the image as a person sees it. Read-only.
    target
        The target and the model's prediction.
    method
        Name of the explainer.
    signed
        Whether the sign of a value means something (for or against). Maps of methods that
        can't be negative say False.
    unit
        What a value counts, as in ``"logits"``.
    name
        Name of the image, as in the file's name.
    evidence
        Metrics of the map: completeness, shares, counts.
    provenance
        Where it comes from: parameters, layer, weights digest, versions, seed, device.
    """

    values: npt.NDArray[np.float32]
    extent: Extent
    image: npt.NDArray[np.uint8]
    target: TargetRecord
    method: str
    signed: bool = True
    unit: str = ""
    name: str = ""
    evidence: Metadata = field(default_factory=Metadata)
    provenance: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        # Explanations of one image share its pixels where nobody can change them.
        image = self.image if _settled(self.image) else np.array(self.image)
        if values.ndim != 2 or 0 in values.shape:
            raise CvxError(f"values must have the shape (h, w), got {values.shape}.")
        if not np.isfinite(values).all():
            raise CvxError(
                f"The map of {self.method!r} holds {int((~np.isfinite(values)).sum())} values that "
                "are not finite.",
                "Look for nan or inf in the model's weights or input, or use --dtype float32.",
            )
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise CvxError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}.")
        sides = [float(side) for side in self.extent]
        if not (
            len(sides) == 4
            and all(map(math.isfinite, sides))
            and sides[0] < sides[2]
            and sides[1] < sides[3]
        ):
            raise CvxError(f"extent must be (left, top, right, bottom), got {self.extent}.")
        values.setflags(write=False)
        image.setflags(write=False)
        put = object.__setattr__
        put(self, "values", values)
        put(self, "image", image)
        put(self, "extent", tuple(sides))
        put(self, "evidence", Metadata(self.evidence))
        put(self, "provenance", Metadata(self.provenance))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickle and deepcopy lose numpy's read-only flag.
        for key, value in state.items():
            object.__setattr__(self, key, value)
        self.__post_init__()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Explanation):
            return NotImplemented
        return all(
            np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs
            for mine, theirs in (
                (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        h, w = self.values.shape
        about = shortened(f"{self.method} of {self.name or 'image'}: {self.target.text}", 72)
        return f"<Explanation {about} {h}x{w}>"

    @property
    def title(self) -> str:
        """One line: the method and the target."""
        return f"{self.method}: {self.target.text}"

    @property
    def additive(self) -> bool:
        """Whether a sum of values means something; of other maps only places are compared."""
        return self.evidence.get("additive") is not False

    def heatmap(
        self, size: tuple[int, int] | None = None, *, fill: float = math.nan
    ) -> npt.NDArray[np.float32]:
        """Return the map resampled onto the image.

        Parameters
        ----------
        size
            (width, height) to which the whole image is thought scaled; None for its own size.
        fill
            Value where the map does not reach, as outside of the network's crop.

        Returns
        -------
        numpy.ndarray
            float32 (height, width): bilinear between centres of positions (area-weighted when
            shrinking), `fill` where the map does not reach. Values keep their unit; they are not
            normalised, and their sum is not the map's sum.
        """
        height, width = self.image.shape[:2]
        out_w, out_h = (width, height) if size is None else size
        left, top, right, bottom = self.extent
        scale_x, scale_y = out_w / width, out_h / height
        found = resample(
            self.values,
            (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y),
            (out_h, out_w),
        )
        return found if math.isnan(fill) else np.nan_to_num(found, nan=fill)

    def overlay(
        self,
        colormap: str | None = None,
        alpha: float = OPACITY,
        size: tuple[int, int] | None = None,
        background: str = "grey",
    ) -> Image.Image:
        """Return the map over the image, as a PIL image.

        Parameters
        ----------
        colormap
            A color map of matplotlib or cmcrameri; None for vik (blue against, red for) where the
            sign means something, else inferno.
        alpha
            Opacity of the strongest value, in [0, 1]; weaker values are more transparent.
        size
            (width, height) in pixels; None for those of the image.
        background
            The image under the map in ``"grey"``, where the map has all the color, or in
            ``"color"``.

        Raises
        ------
        OptionError
            If the color map is unknown, or `alpha` is out of its range.

        Examples
        --------
        >>> from cvx_core.testing.samples import sample_explanation
        >>> sample_explanation().overlay("vik", size=(64, 48)).size
        (64, 48)
        """
        return overlay(self, size, colormap=colormap, strongest=alpha, background=background)

    def plot(
        self,
        ax: Any = None,
        *,
        colormap: str | None = None,
        alpha: float = OPACITY,
        caption: bool = False,
        title: bool | str = True,
        original: bool = False,
        colorbar: bool = True,
        background: str = "grey",
    ) -> Any:
        """Draw the overlay with matplotlib, into axes of your own figure or new ones.

        Parameters
        ----------
        ax
            Axes to draw into; None makes a figure that pyplot shows.
        colormap, alpha, background
            See `overlay`.
        caption
            Whether prediction, label and layer stand below.
        title
            Whether method and target stand above, or another title.
        original
            Draw the image without the map.
        colorbar
            Whether the scale of the values is shown.

        Returns
        -------
        matplotlib.axes.Axes
            In pixels of the image.

        Raises
        ------
        OptionError
            If matplotlib is not installed, or see `overlay`.
        """
        return plot(
            self,
            ax,
            colormap=colormap,
            alpha=alpha,
            caption=caption,
            title=title,
            original=original,
            colorbar=colorbar,
            background=background,
        )

    def replace(self, **changes: Any) -> Explanation:
        """Return a copy with some fields changed."""
        return Explanation(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **changes})

    def to_dict(self, *, arrays: bool = True) -> dict[str, Any]:
        """Return the explanation as JSON values.

        Parameters
        ----------
        arrays
            Whether `values` goes in, as nested lists. The image's pixels never do.
        """
        data: dict[str, Any] = {
            "method": self.method,
            "name": self.name,
            "signed": self.signed,
            "unit": self.unit,
            "extent": list(self.extent),
            "shape": list(self.values.shape),
            "image_size": [self.image.shape[1], self.image.shape[0]],
            "target": self.target.to_dict(),
            "evidence": self.evidence.to_dict(),
            "provenance": self.provenance.to_dict(),
        }
        if arrays:
            data["values"] = self.values.tolist()
        return data

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        image: npt.NDArray[np.uint8],
        values: npt.NDArray[np.float32] | None = None,
    ) -> Explanation:
        """Rebuild an explanation from `to_dict`, the pixels and (if left out there) the map."""
        return cls(
            values=np.asarray(data["values"], dtype=np.float32) if values is None else values,
            extent=tuple(data["extent"]),
            image=image,
            target=TargetRecord.from_dict(data["target"]),
            method=str(data["method"]),
            signed=bool(data["signed"]),
            unit=str(data["unit"]),
            name=str(data["name"]),
            evidence=Metadata(data["evidence"]),
            provenance=Metadata(data["provenance"]),
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the explanation to a file, atomically; the suffix says in which format.

        Parameters
        ----------
        path
            ``.npz``, also where there is no suffix, is the explanation as it is (no pickle
            inside), which `load` reads. Other suffixes are those of the installed renderers, such
            as ``.png``, ``.pdf``, ``.html`` and ``.json``. ``overlay().save(path)`` writes the
            overlay alone.
        overwrite
            Replace a file that exists.

        Raises
        ------
        OutputError
            If the file exists and `overwrite` is false, it can't be written, or no renderer writes
            such files.
        """
        path = Path(path)
        if path.suffix.lower() in ("", SUFFIX):
            path, data = path.with_suffix(SUFFIX), to_npz([self])
        else:
            data = renderer_for(path.suffix, [SUFFIX]).render([self]).data
        return write_atomic(path, data, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read an explanation that `save` wrote as npz.

        Raises
        ------
        OutputError
            If the file is no saved explanation, or holds more than one
            (`cvx_core.load_explanations` reads those).
        """
        found = unpack(path, Explanation.from_dict)
        if len(found) != 1:
            raise OutputError(
                f"{path} holds {len(found)} explanations.", "Read them with load_explanations()."
            )
        return found[0]

    @property
    def cautions(self) -> list[str]:
        """Warnings to read before the map is believed, and the verdict of the sanity check.

        Examples
        --------
        >>> from cvx_core.testing.samples import sample_explanation
        >>> verdict = {"verdict": "fails", "reason": "The map hardly depends on the network."}
        >>> sample_explanation(evidence={"sanity": verdict}).cautions
        ['⚠ Sanity check: fails. The map hardly depends on the network.']
        """
        found = []
        warning, sanity = self.evidence.get("warning"), self.evidence.get("sanity")
        if warning:
            found.append(f"⚠ {warning}")
        if isinstance(sanity, Metadata):
            sign = "⚠ " if sanity["verdict"] == "fails" else ""
            found.append(f"{sign}Sanity check: {sanity['verdict']}. {sanity['reason']}")
        return found

    @property
    def model_text(self) -> str:
        """The model's name for people, with a note on random weights; may be empty.

        Examples
        --------
        >>> from cvx_core.testing.samples import sample_explanation
        >>> given = {"model": "timm:resnet18", "model_details": {"weights": "random"}}
        >>> sample_explanation(provenance=given).model_text
        'timm:resnet18, random weights'
        """
        name = str(self.provenance.get("model") or "")
        details = self.provenance.get("model_details")
        random = isinstance(details, Metadata) and details.get("weights") == "random"
        return ", ".join(part for part in (name, "random weights" if random else "") if part)

    def _repr_png_(self) -> bytes:
        return overlay_png(self)

    def _repr_html_(self) -> str:
        return explanation_html(self)


def to_npz(explanations: Sequence[Explanation]) -> bytes:
    """Return explanations as an npz archive; equal explanations give equal bytes."""
    return pack((e.to_dict(arrays=False), e.values, e.image) for e in explanations)


def _settled(image: object) -> bool:
    return isinstance(image, np.ndarray) and image.flags.owndata and not image.flags.writeable
