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
from .rules.base import Passage as Passage, Propagation as Propagation
from .rules.call import Call as Call, argument as argument
from .rules.layers import (
    AlphaBeta as AlphaBeta,
    Epsilon as Epsilon,
    Flat as Flat,
    Gamma as Gamma,
    Rule as Rule,
    ZBox as ZBox,
)
from .rules.relevance import Relevance as Relevance
from .rules.rescale import Rescale as Rescale
from .saved_tensors import Saved as Saved
