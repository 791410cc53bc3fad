from .attention import (
    attention_blocks as attention_blocks,
    attention_gradients as attention_gradients,
    attention_shapes as attention_shapes,
    image_attention as image_attention,
    tokens_read as tokens_read,
)
from .conservation import (
    constant_part as constant_part,
    contributions as contributions,
    image_balance as image_balance,
    leakage as leakage,
    relevance as relevance,
)
from .interception.leakage import Origin as Origin
from .layer_selection.finer import find_finer_levels as find_finer_levels
from .layer_selection.selection import (
    find_last_grid as find_last_grid,
    find_layer as find_layer,
    find_levels as find_levels,
    find_trunk as find_trunk,
    has_bypass as has_bypass,
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
from .rules.attention import attention_in_steps as attention_in_steps
from .rules.autograd import GivenSlopes as GivenSlopes, graph_nodes as graph_nodes
from .rules.base import Backward as Backward, Passage as Passage, Propagation as Propagation
from .rules.call import (
    Call as Call,
    active as active,
    any_active as any_active,
    argument as argument,
    arguments as arguments,
)
from .rules.pooling import MAX_POOLS as MAX_POOLS
from .rules.table import FROZEN_GATES as FROZEN_GATES
from .saved_tensors import SavedTensors as SavedTensors
