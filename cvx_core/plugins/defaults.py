"""Defaults of ``cvx explain``: model, explainers and renderers."""

from __future__ import annotations

MODEL = "embedded"
EXPLAINERS = ("class-attention", "location-attention", "gradient-error", "activation-error")
RENDERERS = ("html", "figure")

BY_KIND = {"explainer": EXPLAINERS, "renderer": RENDERERS, "model source": (MODEL,)}
"""The same by the kind of the component, in the order in which they are shown."""
