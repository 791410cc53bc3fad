from .investigation import why as why
from .report.data import FixFound as FixFound, RegionReport as RegionReport, Removal as Removal
from .report.error_report import ErrorReport as ErrorReport
