"""Explanations as an npz archive: arrays and JSON, never pickle.

An archive holds ``metadata`` (one JSON document: schema, and a list of explanations without their
arrays), ``values_0``, ``values_1``, ... and ``image_0``, ... (each image once).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
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


def pack(entries: Iterable[tuple[dict[str, Any], Array, Array]]) -> bytes:
    """Return an archive of (JSON values, map, image) triples; equal entries give equal bytes.

    No triple is kept once it is in the archive.
    """
    images: dict[str, int] = {}
    documents = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, (data, values, image) in enumerate(entries):
            key = hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() + repr(image.shape)
            if key not in images:
                images[key] = len(images)
                _put(archive, f"image_{images[key]}", image)
            _put(archive, f"values_{index}", values)
            documents.append({**data, "image": images[key]})
        document = {"schema": SCHEMA, "explanations": documents}
        text = json.dumps(document, ensure_ascii=False, sort_keys=True)
        _put(archive, "metadata", np.array(text))
    return buffer.getvalue()


def _put(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, array, allow_pickle=False)


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
