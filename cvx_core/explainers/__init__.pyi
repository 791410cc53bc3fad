from .batching import images_at_once as images_at_once, in_pieces as in_pieces
from .check import Attributed as Attributed, Check as Check
from .method import Method as Method
from .placement import Grids as Grids
from .pyramid import (
    agreement as agreement,
    at_all_levels as at_all_levels,
    enlarge as enlarge,
    spread as spread,
)
from .request import (
    ExplainRequest as ExplainRequest,
    ImageTargets as ImageTargets,
    SharedRecordings as SharedRecordings,
)
from .runner import run as run
