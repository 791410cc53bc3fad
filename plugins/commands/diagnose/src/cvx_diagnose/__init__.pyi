from .analysis.metrics.tide import TideReport as TideReport, tide as tide
from .data.factory import open_source as open_source
from .data.items import Item as Item
from .data.sources import Source as Source
from .diagnosis import diagnose as diagnose
from .run.plan import Plan as Plan
from .run.results import Run as Run
