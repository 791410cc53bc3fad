"""Explanations as an npz archive: arrays and JSON, never pickle.

An archive holds ``metadata`` (one JSON document: schema, and a list of explanations without their
arrays), ``values_0``, ``values_1``, ... and ``image_0``, ... (each image once).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvx_core._util.files import is_file, no_file
from cvx_core.errors import OutputError

Array = npt.NDArray[Any]
T = TypeVar("T")

SCHEMA = "cvx.explanations/1"
SUFFIX = ".npz"
MAX_BYTES = 2 * 1024**3
"""An archive that would unpack to more than this is refused (an npz of 190 KB can hold 190 MB)."""


def pack(entries: Sequence[tuple[dict[str, Any], Array, Array]]) -> bytes:
    """Return an archive of (JSON values, map, image) triples; equal entries give equal bytes."""
    arrays: dict[str, Any] = {}
    images: dict[bytes, int] = {}
    documents = []
    for index, (data, values, image) in enumerate(entries):
        number = images.setdefault(image.tobytes() + repr(image.shape).encode(), len(images))
        arrays[f"image_{number}"] = image
        arrays[f"values_{index}"] = values
        documents.append({**data, "image": number})
    document = {"schema": SCHEMA, "explanations": documents}
    arrays["metadata"] = np.array(json.dumps(document, ensure_ascii=False, sort_keys=True))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack(path: str | Path, build: Callable[[dict[str, Any], Array, Array], T]) -> list[T]:
    """Return what `build` makes of each (JSON values, image, map) in an archive.

    Raises
    ------
    OutputError
        If the file is missing, damaged, too large when unpacked, or not such an archive.
    """
    path = Path(path)
    # Opening a pipe would wait for somebody to write into it.
    if not is_file(path):
        raise OutputError(no_file(path, str(path)))
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise OutputError(f"{path} is too large: it would unpack to {unpacked / 1e9:.1f} GB.")
        with np.load(path, allow_pickle=False) as arrays:
            document = json.loads(str(arrays["metadata"]))
            if document["schema"] != SCHEMA:
                raise OutputError(
                    f"{path} has the schema {document['schema']!r}; this cvx reads {SCHEMA!r}.",
                    "Read it with the version of cvx that wrote it.",
                )
            return [
                build(entry, arrays[f"image_{entry['image']}"], arrays[f"values_{index}"])
                for index, entry in enumerate(document["explanations"])
            ]
    except OutputError:
        raise
    # The boundary to a file of unknown origin: zipfile, zlib, numpy, tokenize and json each raise
    # exceptions of their own for damage, and no list of them turned out complete.
    except Exception as error:
        raise OutputError(
            f"Can't read explanations from {path}: {type(error).__name__}: "
            f"{getattr(error, 'message', error)}",
            "Pass a file written by Explanation.save() or '-r npz'.",
        ) from error
