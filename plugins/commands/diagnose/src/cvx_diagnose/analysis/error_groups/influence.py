"""Influence of training images: those that increased the loss of a group of errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core import UsageError
from cvx_diagnose.analysis.error_groups.groups import ErrorGroups
from cvx_diagnose.analysis.label_issues.label_quality import softmax
from cvx_diagnose.run.results import Run

Numbers = npt.NDArray[Any]

LISTED = 6
"""Training images listed for each group."""


def find_influential_images(
    run: Run, training: Run, error_groups: ErrorGroups
) -> list[list[dict[str, Any]]]:
    """Return, for each group of errors, the training images that increased its loss most.

    TracIn at the last layer (Pruthi et al., NeurIPS 2020): the product of the gradients of two
    losses with respect to the last layer's weights, which is exactly (e . e')(h . h') with
    e = p - 1_y and the layer's inputs h, in squared nats for each unit of the learning rate.
    Negative: a training step on the one image increases the loss of the other.

    Parameters
    ----------
    run, error_groups
        With the errors.
    training
        A finished run of the same network over its training data.

    Raises
    ------
    UsageError
        If the network is another, or its logits are not a linear map of the features.
    """
    _check_training(run, training)
    table = run.table(["id", "label", "logits", "features"], wrong=True)
    at = {number: i for i, number in enumerate(table["id"].to_pylist())}
    order = [at[int(number)] for number in error_groups.ids]
    e, h = _gradients(run, table)
    # The sum over a group of (e . e')(h . h') is e . G h with the group's own gradient G.
    members = [error_groups.groups == k for k in range(len(error_groups.described))]
    groups = [np.einsum("nc,nf->cf", e[order][those], h[order][those]) for those in members]
    found: list[list[dict[str, Any]]] = [[] for _ in groups]
    for block in training.blocks(["id", "path", "label", "status", "logits", "features"]):
        known = block.filter(block["label"].is_valid())
        if not len(known):
            continue
        e, h = _gradients(training, known)
        rows = known.select(["id", "path", "label"]).to_pylist()
        for group, gradient in enumerate(groups):
            scores = np.einsum("nc,cf,nf->n", e, gradient, h, optimize=True)
            worst = np.argsort(scores, kind="stable")[:LISTED]
            found[group] += [
                {**rows[i], "influence": float(scores[i])} for i in worst if scores[i] < 0
            ]
            found[group] = sorted(found[group], key=lambda one: one["influence"])[:LISTED]
    return found


def _check_training(run: Run, training: Run) -> None:
    if training.pending:
        raise UsageError(
            f"The run in {training.folder} is not finished.", "Finish it first: --resume."
        )
    if training.plan.weights_sha256 != run.plan.weights_sha256:
        raise UsageError(
            f"The run in {training.folder} was made with other weights.",
            "Run cvx diagnose over the training data with this model first.",
        )
    if not (run.plan.features_exact and training.plan.features_exact):
        raise UsageError(
            "No torch.nn.Linear outputs this network's logits: influence can't be computed.",
            "Omit --training.",
        )


def _gradients(run: Run, table: Any) -> tuple[Numbers, Numbers]:
    labels = np.array(table["label"].to_pylist(), dtype=np.int64)
    e = softmax(run.numbers(table, "logits"))
    e[np.arange(len(labels)), labels] -= 1
    return e, np.nan_to_num(run.numbers(table, "features")).astype(np.float64)
