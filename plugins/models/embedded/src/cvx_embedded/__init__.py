"""EfficientNet-Lite0 with real ImageNet weights, and two photographs to try it on, offline."""

from cvx_embedded.photographs import Photograph, photographs

__all__ = ["Photograph", "photographs"]
