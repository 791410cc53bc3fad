"""Why an answer is wrong: regions that were removed, and what became of the error."""

from cvx_why.report import BlamedRegion, ErrorReport, FixFound, Removal
from cvx_why.why import why

__all__ = ["BlamedRegion", "ErrorReport", "FixFound", "Removal", "why"]
