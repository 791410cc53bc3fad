from .investigation import why as why
from .report.error_report import ErrorReport as ErrorReport
from .search.fix import FixReport as FixReport
from .search.regions import FillReport as FillReport, RegionReport as RegionReport
