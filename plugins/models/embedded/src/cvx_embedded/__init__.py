"""Networks with real weights, and two photographs to try them on, offline."""

from cvx_embedded.photographs import Photograph, photographs

__all__ = ["Photograph", "photographs"]
