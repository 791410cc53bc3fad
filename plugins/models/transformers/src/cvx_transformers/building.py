"""Build networks of transformers, never running code that comes with a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
from transformers.utils import logging

from cvx_core import CheckpointError, ModelError
from cvx_core.checkpoints import read_checkpoint
from cvx_core.model_source import seeded


def read_config(folder: Path, name: str) -> Any:
    """Return the configuration in a folder.

    Raises
    ------
    ModelError
        If it can't be read, or is no image classifier's.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # The boundary to a file from anywhere: checks of transformers raise what they please.
    except Exception as error:
        raise ModelError(
            f"The configuration of {name} can't be read: {_told(error)}",
            "cvx runs no code that comes with a model; build such a one in code of your own.",
        ) from error
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{name} is a {config.model_type!r}, for which transformers has no image classifier.",
            "Take a model for image classification.",
        )
    return config


def bare(config: Any) -> nn.Module:
    """Return the network with seeded random parameters.

    Raises
    ------
    ModelError
        If its configuration does not describe one.
    """
    try:
        with seeded(), _quiet():
            module: nn.Module = AutoModelForImageClassification.from_config(
                config, trust_remote_code=False
            )
    # The boundary to a file from anywhere: numbers that don't go together fail wherever they meet.
    except Exception as error:
        raise ModelError(
            f"No {config.model_type!r} can be built from this configuration: {_told(error)}"
        ) from error
    return module


def with_file(config: Any, path: Path, trust: bool) -> nn.Module:
    """Return the network with a checkpoint of the user's own.

    Raises
    ------
    CheckpointError
        If it can't be read, or does not fit.
    """
    # Not copied in by name: transformers saves networks under other names than they have inside.
    state = read_checkpoint(path, trust=trust)
    kind = type(bare(config))
    module, report = _load(kind, None, str(path), config=config, state_dict=state)
    _check(report, str(path), strict=True)
    return module


def trained(config: Any, folder: Path, name: str, trust: bool) -> nn.Module:
    """Return the network with the weights in its folder.

    Raises
    ------
    CheckpointError
        If they can't be read, or leave a parameter unset: transformers would fill it at random.
    """
    if not any(folder.glob("*.safetensors")):
        for pickled in folder.glob("pytorch_model*.bin"):
            read_checkpoint(pickled, trust=trust)  # says better than transformers what is wrong
    module, report = _load(
        AutoModelForImageClassification,
        folder,
        name,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        weights_only=not trust,
    )
    _check(report, name)
    return module


def _load(
    kind: Any, folder: Path | None, origin: str, **arguments: Any
) -> tuple[nn.Module, Mapping[str, Iterable[Any]]]:
    """Call transformers and return the network with the report of what fitted."""
    try:
        with seeded(), _quiet():
            module, report = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # reported, and refused below
                output_loading_info=True,
                **arguments,
            )
    # The boundary to a file from anywhere: a damaged one fails wherever it is first looked at.
    except Exception as error:
        raise CheckpointError(
            f"The weights of {origin} can't be loaded: {_told(error)}",
            "Weights as model.safetensors are read, and pickled ones that hold nothing else.",
        ) from error
    return module, report


def _check(report: Mapping[str, Iterable[Any]], origin: str, *, strict: bool = False) -> None:
    kinds = [("missing", "missing_keys"), ("of another shape", "mismatched_keys")]
    if strict:
        kinds.append(("not in the model", "unexpected_keys"))
    problems = []
    for what, key in kinds:
        items = sorted(_described(item) for item in report[key])
        if items:
            more = ", ..." if len(items) > 3 else ""
            problems.append(f"{len(items)} {what} ({', '.join(items[:3])}{more})")
    if problems:
        raise CheckpointError(
            f"The weights of {origin} don't fit the classifier: {'; '.join(problems)}.",
            "Take a model that was trained to classify, or see it untrained with --weights random.",
        )


def _described(item: Any) -> str:
    if isinstance(item, tuple):
        name, found, wanted = item
        return f"{name} is {tuple(found)} and should be {tuple(wanted)}"
    return str(item)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal; what matters becomes an error."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
