"""Model source for classifiers, segmenters and detectors of transformers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from cvx_core import CheckpointError, ModelEntry, ModelError, ModelSource, VisionModel
from cvx_core.models import first_synonyms, names_a_file
from cvx_transformers.adapter import Adapter, read_adapter
from cvx_transformers.builder import bare, read_config, trained, with_file
from cvx_transformers.hub import local_folder, model_folder
from cvx_transformers.preprocessing import read_preprocess
from cvx_transformers.tasks import built_for, check_prompts


class TransformersSource(ModelSource):
    """Image models of transformers; code included in a model is never run.

    Supported are the models of ``AutoModelForImageClassification``,
    ``AutoModelForSemanticSegmentation``, ``AutoModelForUniversalSegmentation`` and
    ``AutoModelForObjectDetection``.
    """

    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        """Return a model.

        Parameters
        ----------
        name
            A folder written by ``save_pretrained``, or the name of a repository on the hub
            (``"owner/name"``, ``"owner/name@revision"``): of a model, or of an adapter of PEFT,
            whose base is loaded with it.
        weights
            None uses the model's own; or ``"random"``, or your own file.
        trust_checkpoint
            See `cvx_core.load_model`.

        Raises
        ------
        ModelError
            If the model is unknown, or its task is unsupported.
        CheckpointError
            If it is unavailable, or its weights don't fill the network.
        """
        random = str(weights) == "random"
        own = None if weights is None or random else Path(weights)
        if own is not None and not names_a_file(own if isinstance(weights, Path) else str(weights)):
            raise CheckpointError(
                f"Models of transformers have no named weights, got {str(weights)!r}.",
                "Use NAME@REVISION, another model, 'random' or a file path.",
            )
        folder = model_folder(name, with_weights=weights is None)
        adapter = read_adapter(folder, name, trust=trust_checkpoint)
        origin = name if adapter is None else adapter.base
        if adapter is not None:
            folder = _base_folder(adapter, with_weights=weights is None)
        config, task = read_config(folder, origin)
        if adapter is not None:
            config.num_labels = adapter.classes(bare(config, task), config.num_labels)
        if random:
            module = bare(config, task)
        elif own is not None:
            module = with_file(config, task, own, trust_checkpoint)
        else:
            replaced = (lambda _: False) if adapter is None else adapter.replaces
            module = trained(config, task, folder, origin, trust_checkpoint, replaced)
        preprocess = read_preprocess(folder, origin)
        if adapter is not None:
            # To random weights its difference would mean nothing.
            module = module if random else adapter.applied(module)
            preprocess = _own_preprocess(adapter, preprocess)
        return VisionModel(
            module.eval(),
            preprocess=preprocess,
            classes=_class_names(config),
            task=task.name,
            readout=task.readout(config, getattr(preprocess, "processor", None)),
            # A local path is private, and results are shared.
            name=f"transformers:{Path(name).name if Path(name).is_dir() else name}",
            details={"weights": "random" if random else own.name if own else "pretrained"},
        )

    def wrap(self, module: nn.Module) -> VisionModel | None:
        """Return a network of the user's own; None if its task is unknown.

        The image processor is that of the folder, or of the cached model, that it was loaded from;
        without one, prepared tensors can be explained.
        """
        task = built_for(module)
        if task is None:
            check_prompts(getattr(module, "config", None))
            return None
        config: Any = module.config
        return VisionModel(
            module,
            preprocess=_preprocess_of(config),
            classes=_class_names(config),
            task=task.name,
            readout=task.readout(config, None),
            name=type(module).__name__,
        )

    def models(self) -> Iterable[ModelEntry]:
        """Return nothing: a hub can't be listed."""
        return ()


def _base_folder(adapter: Adapter, *, with_weights: bool) -> Path:
    try:
        return model_folder(adapter.base, with_weights=with_weights)
    except (ModelError, CheckpointError) as error:
        raise type(error)(
            f"{adapter.name} is an adapter of {adapter.base}. {error.message}",
            "Write the folder of that model as base_model_name_or_path into adapter_config.json.",
        ) from error


def _own_preprocess(adapter: Adapter, of_base: Any) -> Any:
    """Return the image processor that was saved with an adapter, or that of its base."""
    saved = (adapter.folder / "preprocessor_config.json").is_file()
    return read_preprocess(adapter.folder, adapter.name) if saved else of_base


def _preprocess_of(config: Any) -> Any:
    name = str(getattr(config, "_name_or_path", "") or "")
    folder = local_folder(name)
    if folder is None or not (folder / "preprocessor_config.json").is_file():
        return None
    return read_preprocess(folder, name)


def _class_names(config: Any) -> list[str] | None:
    """Return the names by index, or None where they are only transformers' placeholders."""
    names = [str(config.id2label.get(index, index)) for index in range(config.num_labels)]
    if all(name in (f"LABEL_{index}", str(index)) for index, name in enumerate(names)):
        return None
    return first_synonyms(names)
