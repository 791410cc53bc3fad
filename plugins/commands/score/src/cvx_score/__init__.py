"""How faithful maps are: what the network says when what they blame is taken away, and where.

Names are imported when they are first used, so that listing the plugin costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "MEASURES": "cvx_score.report",
    "Completeness": "cvx_score.measures.completeness",
    "Curves": "cvx_score.measures.curves",
    "Score": "cvx_score.report",
    "completeness": "cvx_score.measures.completeness",
    "deletion": "cvx_score.measures.curves",
    "impute": "cvx_score.measures.imputation",
    "insertion": "cvx_score.measures.curves",
    "pointing": "cvx_score.measures.localization",
    "rank_accuracy": "cvx_score.measures.localization",
    "relevance_mass": "cvx_score.measures.localization",
    "road": "cvx_score.measures.curves",
    "score": "cvx_score.evaluation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cvx_score' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
