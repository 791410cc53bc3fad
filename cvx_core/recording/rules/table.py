"""Table of frozen gates: the rule of each intercepted function, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cvx_core.recording.rules.attention import scaled_dot_product_attention
from cvx_core.recording.rules.call import Call
from cvx_core.recording.rules.elementwise import constant, gated, piecewise, power, shifted
from cvx_core.recording.rules.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
    var_mean,
)
from cvx_core.recording.rules.pooling import (
    MAX_POOLS,
    SAMPLERS,
    chosen_along,
    clamped,
    max_or_min,
    max_pool,
    of_two,
    reduced,
    sampled,
)
from cvx_core.recording.rules.products import (
    cosine,
    einsum,
    gated_half,
    product,
    product_and_more,
    quotient,
)
from cvx_core.recording.rules.recurrent import RECURRENT, recurrent

# Functions with f(0) = 0, written as x * (f(x) / x).
_GATED = (
    "gelu silu hardswish mish tanh elu selu celu softsign tanhshrink sqrt "
    "asinh arcsinh atan arctan log1p expm1 sin sinh tan square"
)
# Linear in pieces: the own derivative freezes the choice of the piece.
_PIECEWISE = "relu leaky_relu prelu rrelu relu6 hardtanh threshold abs softshrink hardshrink"
# Scales, probabilities and choices: as a rule, the result multiplies something else.
_CONSTANT = (
    "softmax sigmoid hardsigmoid softplus exp exp2 log log2 log10 rsqrt reciprocal "
    "var std norm linalg_vector_norm linalg_norm linalg_matrix_norm frobenius_norm "
    "logsumexp cos erf erfc gt lt ge le eq ne greater less greater_equal less_equal "
    "argmax argmin argsort round floor ceil sign sgn bucketize searchsorted isnan isinf"
)
FROZEN_GATES: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(_GATED.split(), gated),
    **dict.fromkeys(_PIECEWISE.split(), piecewise),
    **dict.fromkeys(_CONSTANT.split(), constant),
    **dict.fromkeys(("mul", "multiply", "matmul", "bmm", "mm", "mv", "dot"), product),
    **dict.fromkeys(
        ("inner", "outer", "ger", "vdot", "linalg_vecdot", "kron", "tensordot"), product
    ),
    **dict.fromkeys(("linear", *(f"conv{n}d" for n in (1, 2, 3))), product),
    **dict.fromkeys((f"conv_transpose{n}d" for n in (1, 2, 3)), product),
    **dict.fromkeys(("addcmul", "addmm", "baddbmm", "addbmm"), product_and_more),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), clamped),
    **dict.fromkeys(("div", "divide", "true_divide"), quotient),
    **dict.fromkeys(("sort", "topk", "median", "kthvalue", "cummax", "cummin"), chosen_along),
    **dict.fromkeys(("amax", "amin"), reduced),
    **dict.fromkeys(("max", "min"), max_or_min),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), of_two),
    **dict.fromkeys(MAX_POOLS, max_pool),
    **dict.fromkeys(SAMPLERS, sampled),
    **dict.fromkeys(("var_mean", "std_mean"), var_mean),
    "pow": power,
    "einsum": einsum,
    "glu": gated_half,
    "cosine_similarity": cosine,
    "log_softmax": shifted,
    "log_sigmoid": shifted,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm": batch_norm,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    **dict.fromkeys(RECURRENT, recurrent),
}

OWN_GRADIENT = (piecewise, clamped)
"""Rules under which a function's own derivative is right, so that it can run in place."""
