"""Construction of networks of transformers, without running code included in a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig
from transformers.utils import logging

from cvx_core import CheckpointError, ModelError, install_command
from cvx_core.models import read_checkpoint, seeded
from cvx_core.plugins import describe_error
from cvx_transformers.tasks import Task, check_prompts, compares_texts, task_of


def read_config(folder: Path, name: str) -> tuple[Any, Task]:
    """Return the configuration in a folder, and the task of its network.

    Raises
    ------
    ModelError
        If it can't be read, or cvx does not support its task.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Boundary to untrusted files: checks of transformers raise any exception.
    except Exception as error:
        raise ModelError(
            f"The configuration of {name} can't be read: {describe_error(error)}",
            "cvx does not run code included in a model; build such a model in your own code.",
        ) from error
    if compares_texts(config):
        raise ModelError(
            f"{name} compares images with texts: its classes are prompts.",
            f"Write -m zero-shot:{name},prompts=FILE ({install_command('cvx-zero-shot')}).",
        )
    task = task_of(config)
    if task is None:
        check_prompts(config)
        raise ModelError(
            f"Unsupported model type of {name}: {config.model_type!r}. transformers has no image "
            "classifier, segmenter or object detector for it.",
            "Use a model for one of these tasks.",
        )
    return config, task


def bare(config: Any, task: Task) -> nn.Module:
    """Return the network with seeded random parameters.

    Raises
    ------
    ModelError
        If its configuration is invalid.
    """
    try:
        with seeded(), _quiet():
            module: nn.Module = task.auto.from_config(config, trust_remote_code=False)
    # Boundary to untrusted files: inconsistent numbers fail anywhere.
    except Exception as error:
        raise ModelError(
            f"Can't build a {config.model_type!r} from this configuration: {describe_error(error)}"
        ) from error
    _check_inputs(module)
    return module


def _check_inputs(module: nn.Module) -> None:
    """Refuse a network that requires more than an image, such as a text prompt."""
    _, *others = signature(module.forward).parameters.values()
    wanted = [
        one.name
        for one in others
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    if wanted:
        raise ModelError(
            f"{type(module).__name__} requires {' and '.join(wanted)} besides the image.",
            "Wrap it in your own module that sets them: -m file.py:FACTORY.",
        )


def with_file(config: Any, task: Task, path: Path, trust: bool) -> nn.Module:
    """Return the network with the user's checkpoint.

    Raises
    ------
    CheckpointError
        If it can't be read or does not fit.
    """
    # Not loaded by name: transformers saves networks under other names than their modules have.
    state = read_checkpoint(path, trust=trust)
    kind = type(bare(config, task))
    module, report = _load(kind, None, str(path), config=config, state_dict=state)
    _check(report, str(path), strict=True)
    return module


def trained(
    config: Any,
    task: Task,
    folder: Path,
    name: str,
    trust: bool,
    replaced: Callable[[str], bool] = lambda _: False,
) -> nn.Module:
    """Return the network with the weights in its folder.

    Parameters
    ----------
    replaced
        Whether a parameter gets its value later, so that it need not be there or fit.

    Raises
    ------
    CheckpointError
        If they can't be read, or leave a parameter unset: transformers would fill it at random.
    """
    if not any(folder.glob("*.safetensors")):
        for pickled in folder.glob("pytorch_model*.bin"):
            read_checkpoint(pickled, trust=trust)  # has clearer errors than transformers
    module, report = _load(
        task.auto,
        folder,
        name,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        weights_only=not trust,
    )
    wanted = {key: [i for i in report[key] if not replaced(_name(i))] for key in report}
    _check(wanted, name)
    _check_inputs(module)
    return module


def _load(
    kind: Any, folder: Path | None, origin: str, **arguments: Any
) -> tuple[nn.Module, Mapping[str, Iterable[Any]]]:
    """Call transformers and return the network with the loading report."""
    try:
        with seeded(), _quiet():
            module, report = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # reported, and refused below
                output_loading_info=True,
                **arguments,
            )
    # Boundary to untrusted files: a damaged one fails anywhere.
    except Exception as error:
        raise CheckpointError(
            f"The weights of {origin} can't be loaded: {describe_error(error)}",
            "Supported: model.safetensors, and pickled files that contain only tensors.",
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
            f"The weights of {origin} don't fit the network: {'; '.join(problems)}.",
            "Use a model trained for this task, or --weights random.",
        )


def _name(item: Any) -> str:
    return str(item[0] if isinstance(item, tuple) else item)


def _described(item: Any) -> str:
    if isinstance(item, tuple):
        name, found, wanted = item
        return f"{name} is {tuple(found)} and should be {tuple(wanted)}"
    return str(item)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and reports; problems are raised as errors."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
