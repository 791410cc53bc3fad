from .kits.base import Conformance as Conformance
