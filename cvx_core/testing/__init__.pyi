from .base import Conformance as Conformance
