from .investigation import why as why
from .report.data import (
    FillReport as FillReport,
    FixReport as FixReport,
    RegionReport as RegionReport,
)
from .report.error_report import ErrorReport as ErrorReport
