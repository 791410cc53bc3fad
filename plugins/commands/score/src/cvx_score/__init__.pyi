from .evaluation import score as score
from .measures.amounts import Amounts as Amounts, amounts as amounts
from .measures.completeness import Completeness as Completeness, completeness as completeness
from .measures.curves import (
    Curves as Curves,
    deletion as deletion,
    insertion as insertion,
    road as road,
)
from .measures.imputation import impute as impute
from .measures.localization import (
    pointing as pointing,
    rank_accuracy as rank_accuracy,
    relevance_mass as relevance_mass,
)
from .report import MEASURES as MEASURES, Score as Score
