"""How faithful maps are: what the network says when what they blame is taken away, and where.

Names are imported when they are first used, so that listing the plugin costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "MEASURES": "cvx_score.report",
    "Completeness": "cvx_score.adding_up",
    "Curves": "cvx_score.curves",
    "Score": "cvx_score.report",
    "completeness": "cvx_score.adding_up",
    "deletion": "cvx_score.curves",
    "impute": "cvx_score.imputation",
    "insertion": "cvx_score.curves",
    "pointing": "cvx_score.places",
    "rank_accuracy": "cvx_score.places",
    "relevance_mass": "cvx_score.places",
    "road": "cvx_score.curves",
    "score": "cvx_score.scoring",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cvx_score' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
