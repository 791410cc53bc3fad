"""COCO's annotations of instances, in JSON (Lin et al., ECCV 2014)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cvx_core.errors import InputError
from cvx_core.truth import TrueBox, TrueBoxes
from cvx_core.truth_files.common import class_index, proper_box, read_text


@lru_cache(maxsize=2)
def _parsed(file: Path, changed: int) -> dict[str, Any]:  # noqa: ARG001 - parsed anew when changed
    """Return a file; those of whole data sets are asked for one image after the other."""
    try:
        data = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}, line {error.lineno}: no JSON ({error.msg}).", "Is it COCO's instances file?"
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(
            f"{file} is no COCO file: {error}.", "Is it COCO's instances file?"
        ) from error
    wanted = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in wanted):
        raise InputError(
            f"{file} is no COCO file of instances.", f"It needs the lists {', '.join(wanted)}."
        )
    return data


def read_coco(file: Path, image: Path, classes: Sequence[str] | None) -> TrueBoxes:
    """Return the objects of the image that has the name of `image`; see `read_truth`."""
    data = _parsed(file, file.stat().st_mtime_ns if file.is_file() else 0)
    way_out = "See COCO's data format: images, annotations and categories with their ids."
    try:
        images = {one["id"]: str(one["file_name"]) for one in data["images"]}
        names = {one["id"]: str(one["name"]) for one in data["categories"]}
        here = [key for key, name in images.items() if Path(name).name == image.name]
        if not here and len(images) == 1 and not image.name:
            here = list(images)
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: an image or category lacks {error}.", way_out) from error
    if len(here) != 1:
        some = ", ".join(list(images.values())[:5])
        raise InputError(
            f"{file} has {len(here)} images called {image.name!r}.",
            f"It has {len(images)}, as {some}. The photograph's file is found by its name.",
        )
    found = []
    for k, one in enumerate(data["annotations"]):
        where = f"{file}, annotation {k}"
        try:
            if one["image_id"] != here[0]:
                continue
            name = names[one["category_id"]]
            x, y, width, height = map(float, one["bbox"])
            crowd = bool(one.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: {type(error).__name__} {error}.", way_out) from error
        sides = proper_box((x, y, x + width, y + height), where, "bbox is [x, y, width, height].")
        found.append(TrueBox(sides, class_index(name, classes, where), crowd))
    return TrueBoxes(tuple(found))
