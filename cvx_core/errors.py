"""Every failure that cvx reports on purpose.

    CvxError                      1   internal error, or no other class applies
      UsageError                  2   invalid arguments
        OptionError                   a parameter that the component does not take
        TargetError                   a class, label or target that can't be resolved
        MethodError                   the method does not support this model or target
      InputError                  3   an image that can't be read
      OutputError                 1   a result that can't be written or read back
      ModelError                  5   a model or its weights
        CheckpointError               weights that can't be loaded, or not safely
        LayerError                    a layer that was not found or has no grid
      PluginError                 6   a plugin
        UnknownComponentError         no plugin offers this name
        ConflictError                 more than one distribution offers it

The number is the exit code of the command line. `message` describes what happened, `hint`
how to fix it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class CvxError(Exception):
    """Base of all errors that cvx raises on purpose.

    Parameters
    ----------
    message
        What happened and why, in one sentence.
    hint
        How to fix it, shown on a separate line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[CvxError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class CvxWarning(UserWarning):
    """Warning about weights or outputs; the run continues."""


class UsageError(CvxError):
    """Invalid arguments."""

    exit_code = 2


class OptionError(UsageError):
    """A parameter that the component does not take, or a value outside its range."""


class TargetError(UsageError):
    """A class, label or target that can't be resolved against this model."""


class MethodError(UsageError):
    """The method does not support this model or target."""


class InputError(CvxError):
    """An image that can't be read."""

    exit_code = 3


class OutputError(CvxError):
    """A result that can't be written, or a saved one that can't be read back."""


class ModelError(CvxError):
    """A model that can't be built or run."""

    exit_code = 5


class CheckpointError(ModelError):
    """Weights that can't be loaded, or not without running code from the file."""


class LayerError(ModelError):
    """A layer that is not in the model, or that holds no spatial grid."""


class PluginError(CvxError):
    """A plugin that is missing, broken or ambiguous."""

    exit_code = 6


class UnknownComponentError(PluginError):
    """No plugin offers a component of this name."""


class ConflictError(PluginError):
    """More than one distribution offers a component of this name."""


def did_you_mean(word: str, candidates: Iterable[str], count: int = 3) -> str:
    """Return ``"Did you mean 'a' or 'b'?"``, or an empty string when nothing is near.

    What begins with the word comes first, in the order of the candidates: ``lrp`` for
    ``lrp-epsilon``.
    """
    from difflib import get_close_matches

    lowered: dict[str, str] = {}
    for candidate in candidates:
        lowered.setdefault(candidate.lower(), candidate)
    known = word.lower()
    begin = [name for name in lowered if known and re.match(re.escape(known) + r"[\W_]", name)]
    near = get_close_matches(known, lowered, n=count, cutoff=0.6)
    near = list(dict.fromkeys([*begin, *near]))[:count]
    if not near:
        return ""
    return "Did you mean " + " or ".join(repr(lowered[name]) for name in near) + "?"


def install_command(*packages: str | Path) -> str:
    """Return the command that installs packages in this environment, with pip or uv.

    uv creates environments without pip. In a clone of the repository, packages of cvx are those of
    the clone, and only uv finds them all.

    Parameters
    ----------
    packages
        Requirements, such as ``"torch>=2.10"``, and folders to install in editable form.
    """
    import os
    import shlex
    from importlib.util import find_spec
    from pathlib import Path

    words, cloned = [], False
    for package in packages:
        folder = package if isinstance(package, Path) else _in_clone(package)
        cloned = cloned or (folder is not package and folder is not None)
        words += [shlex.quote(str(package))] if folder is None else ["-e", shlex.quote(str(folder))]
    command = " ".join(["pip install", *words])
    has_pip = find_spec("pip") is not None
    if has_pip and not cloned:
        return command
    found = {os.environ.get("VIRTUAL_ENV"), str(Path(".venv").absolute())}
    python = "" if sys.prefix in found else f" --python {shlex.quote(sys.executable)}"
    return ("pip install uv && " if has_pip else "") + f"uv {command}{python}"


def _in_clone(requirement: str) -> Path | None:
    """Return the folder of a package of cvx in the clone that this file is in, with the extras."""
    from pathlib import Path

    root = Path(__file__).parents[1]
    match = re.match(r"(cvx-[a-z-]+)(\[.*\])?", requirement)
    if match is None or not (root / "plugins").is_dir():
        return None
    folders = [root] if match[1] == "cvx-core" else []
    module = match[1].replace("-", "_")
    folders += [path.parents[1] for path in root.glob(f"plugins/*/*/src/{module}")]
    return next((Path(f"{folder}{match[2] or ''}") for folder in folders), None)
