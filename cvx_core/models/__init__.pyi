from .checkpoints import (
    fit_weights as fit_weights,
    load_weights as load_weights,
    names_a_file as names_a_file,
    read_checkpoint as read_checkpoint,
)
from .downloads import fetch as fetch, unreachable as unreachable
from .forward import version as version
from .sources import first_synonyms as first_synonyms, seeded as seeded
from .vision_model import VisionModel as VisionModel
