"""Contract of explanation methods: what to record, and maps from recordings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cvx_core._util.tensors import to_host
from cvx_core.errors import UsageError
from cvx_core.explanations.metadata import Metadata
from cvx_core.plugins.component import component_name
from cvx_core.plugins.parameters import parameters_of
from cvx_core.recording import Requirements
from cvx_core.tasks.targets import Predicted, Target

if TYPE_CHECKING:
    from cvx_core.explainers.request import ExplainRequest


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps for one seed, as an explainer returns them.

    Attributes
    ----------
    values
        Tensor (B, h, w): one signed, unnormalised map for each image.
    evidence, provenance
        Measurements about the maps, and how they were made. A tensor holds one value for each
        image and has the shape (B,), also inside a list of mappings, which is shown as a table;
        anything else goes to all of them.
    unit
        What a value counts, where it depends on the model; empty for the explainer's own.
    additive
        Whether a sum of values means something. If not, the evidence says so, captions leave the
        sum out, and `cvx score` does not measure its completeness.
    """

    values: Tensor
    evidence: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    additive: bool = True


@dataclass(frozen=True, eq=False)
class Fetched:
    """An attribution on the host.

    Attributes
    ----------
    values
        float32 (B, h, w).
    finite
        Whether all values of an image are finite, (B,).
    evidence, provenance
        Of each image.
    """

    values: npt.NDArray[np.float32]
    finite: list[bool]
    evidence: list[Metadata]
    provenance: list[Metadata]


Around = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Entries before and after those of an attribution."""


def fetch(
    attributions: Sequence[Attribution], evidence: Around, provenance: Around
) -> list[Fetched]:
    """Bring attributions to the host in one transfer, with the sum of each map as evidence.

    Parameters
    ----------
    evidence, provenance
        What is the same for all of them.
    """
    maps = [one.values.detach() for one in attributions]
    pairs = [
        (
            {
                "sum": values.double().sum((1, 2)),
                **({} if one.additive else {"additive": False}),
                **evidence[0],
                **one.evidence,
                **evidence[1],
            },
            {**provenance[0], **one.provenance, **provenance[1]},
        )
        for one, values in zip(attributions, maps, strict=True)
    ]
    single = [values.float() for values in maps]
    tensors = list(tensors_in(pairs))
    arrays = to_host([*single, *tensors])
    numbers = {
        id(tensor): array.tolist()
        for tensor, array in zip(tensors, arrays[len(single) :], strict=True)
    }
    found = []
    for values, (one, other) in zip(arrays, pairs, strict=False):
        finite = np.isfinite(values).all((1, 2)).tolist()
        rows = [_rows(facts, len(values), numbers) for facts in (one, other)]
        found.append(Fetched(values, finite, *rows))
    return found


def _rows(facts: dict[str, Any], count: int, numbers: dict[int, list[Any]]) -> list[Metadata]:
    """Return the facts of each image: its values of the tensors (B,) in them."""
    own = {key: value for key, value in facts.items() if next(tensors_in(value), None) is not None}
    same = Metadata({**facts, **dict.fromkeys(own)})
    if not own:
        return [same] * count
    return [
        same | {key: _of_image(value, i, numbers) for key, value in own.items()}
        for i in range(count)
    ]


def _of_image(value: Any, i: int, numbers: dict[int, list[Any]]) -> Any:
    if isinstance(value, Tensor):
        return numbers[id(value)][i]
    if isinstance(value, Mapping):
        return {key: _of_image(item, i, numbers) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_of_image(item, i, numbers) for item in value]
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, str | int | float):  # most values, and Mapping is slow to ask for
        return
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(item)


class Method(ABC):
    """Interface of explainers for the runner; `Explainer` is the class to inherit from."""

    default_target: ClassVar[Target] = Predicted()
    signed: ClassVar[bool] = True
    unit: ClassVar[str] = "logits"
    class_specific: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True

    @abstractmethod
    def requirements(self) -> Requirements | Sequence[Requirements]:
        """Return what must be recorded. Recordings are shared by all who need the same gates."""

    @abstractmethod
    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return one `Attribution` for each seed of ``request.seeds(logits)``, in order."""

    @property
    def name(self) -> str:
        """The name it was requested by, or the class's in lower case with hyphens."""
        return getattr(self, "_name", "") or component_name(type(self).__name__)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters for the provenance."""
        return parameters_of(self)

    def with_layer_names(self, network: nn.Module) -> Self:
        """Return the explainer with the names of layers that it was given as modules.

        Raises
        ------
        UsageError
            If a module is not part of the network.
        """
        if not is_dataclass(self):
            return self
        changes = {}
        for one in fields(self):
            given = getattr(self, one.name)
            found = _named(given, network)
            if found is not given:
                changes[one.name] = found
        if not changes:
            return self
        made = replace(self, **changes)
        object.__setattr__(made, "_name", self.name)
        return made

    def recordings(self) -> list[Requirements]:
        """Return `requirements` as a list."""
        needed = self.requirements()
        return [needed] if isinstance(needed, Requirements) else list(needed)


def _named(given: Any, network: nn.Module) -> Any:
    """Return a value with the names of modules instead of the modules, also in lists and parts."""
    if isinstance(given, Method):
        return given.with_layer_names(network)
    if isinstance(given, list | tuple):
        found = [_named(one, network) for one in given]
        changed = any(a is not b for a, b in zip(found, given, strict=True))
        return type(given)(found) if changed else given
    if not isinstance(given, nn.Module):
        return given
    names = [name for name, module in network.named_modules() if module is given]
    if not names or not names[0]:
        raise UsageError(
            f"The layer {type(given).__name__} is not part of {type(network).__name__}.",
            "Pass a module inside of the network, such as net.layer4, or its name.",
        )
    return names[0]
