from .attention import (
    attention_blocks as attention_blocks,
    attention_gradients as attention_gradients,
    tokens_read as tokens_read,
)
from .conservation import (
    bias_contributions as bias_contributions,
    constant_part as constant_part,
    leakage as leakage,
    recorded_flows as recorded_flows,
    relevance as relevance,
)
from .interception.leakage import Origins as Origins
from .layer_selection.selection import (
    find_last_grid as find_last_grid,
    find_layer as find_layer,
    find_levels as find_levels,
    find_trunk as find_trunk,
    leads_around as leads_around,
    open_recording as open_recording,
)
from .layers.hooks import hooked as hooked
from .layers.layer import Layer as Layer, as_grid as as_grid
from .layers.layout import Layout as Layout
from .partial_forward import (
    PartialForward as PartialForward,
    rerun as rerun,
    rerun_gradient as rerun_gradient,
)
from .recording import Recording as Recording
from .requirements import Requirements as Requirements
from .rules.attention import attention_probabilities as attention_probabilities
from .rules.base import (
    Backward as Backward,
    Mixed as Mixed,
    Passage as Passage,
    Propagation as Propagation,
    from_input as from_input,
    nearest as nearest,
    reaches as reaches,
)
from .rules.call import Call as Call, active as active, argument as argument
from .rules.elementwise import gated as gated
from .rules.normalization import batch_norm as batch_norm
from .rules.products import product as product
from .rules.recurrent import RECURRENT as RECURRENT
from .rules.table import RULES as RULES
from .saved_tensors import Saved as Saved
