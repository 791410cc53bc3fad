"""Contract of explanation methods: what to record, and maps from recordings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

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
    """

    values: torch.Tensor
    evidence: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""


class Method(ABC):
    """What the runner needs of an explainer; see `Explainer`, the class to inherit from."""

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

    def recordings(self) -> list[Requirements]:
        """Return `requirements` as a list."""
        needed = self.requirements()
        return [needed] if isinstance(needed, Requirements) else list(needed)
