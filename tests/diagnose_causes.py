"""How well diagnose finds planted causes and flipped labels; writes docs/explanation/diagnose.md.

    OMP_NUM_THREADS=1 python tests/diagnose_causes.py [--networks N] [--dry]

Causes: small networks that learned four shortcuts, two for each of two wrong answers
(tests/planted), and pictures with these. Shortcuts: the same networks, networks that were trained
too little, and such that never saw a cause, which must not be suspected. Labels: handwritten digits
with every tenth label flipped.
Where Cleanlab is installed it judges the same probabilities.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.error_groups.clustering import group_errors
from cvx_diagnose.analysis.error_groups.groups import find_error_groups
from cvx_diagnose.analysis.label_issues.judge import judge_labels
from cvx_diagnose.analysis.label_issues.label_quality import softmax
from cvx_diagnose.analysis.label_issues.search import find_label_issues
from cvx_diagnose.analysis.labeled_rows import LabeledRows
from cvx_engine.local import Local
from PIL import Image
from planted import several
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from torch import nn

from cvx_core import Preprocess, VisionModel

PAGE = Path(__file__).resolve().parents[1] / "docs/explanation/diagnose.md"
KINDS = {
    "under the map, fine place (what `diagnose` does)": "fine_features",
    "under the map, last grid": "error_features",
    "features of the whole image alone": "features",
    "maps alone": "margin_map",
}


def main() -> None:
    """Measure, print, and put the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=3)
    names = ("shortcuts", "labels", "causes")
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tables = {
        name: make()
        for name, make in (
            ("shortcuts", lambda: shortcuts(given.networks)),
            ("labels", labels),
            ("causes", lambda: causes(given.networks)),
        )
        if name in given.tables
    }
    for name, table in tables.items():
        print(table, flush=True)
        if not given.dry:
            before, begin, rest = PAGE.read_text().partition(f"<!-- {name} -->\n")
            _, end, after = rest.partition(f"<!-- end of {name} -->")
            PAGE.write_text(before + begin + table + end + after)


def causes(networks: int) -> str:
    """Return the table of adjusted Rand indices, the number of groups chosen and known."""
    chosen: dict[str, list[str]] = {name: [] for name in KINDS}
    known: dict[str, list[str]] = {name: [] for name in KINDS}
    for seed in range(10, 10 + networks):
        model = several.network(seed=seed)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            planted = several.write(folder / "data", 60, 300, seed=seed + 1)
            run = diagnose(model, folder / "data", folder / "run", budget=0.0, engine=Local(1))
            cause = {one.file: one.cause for one in planted}
            table = run.table(wrong=True)
            truth = [cause[path] for path in table["path"].to_pylist()]
            answers = [str(one) for one in table["predicted"].to_pylist()]
            for name, column in KINDS.items():
                values = run.numbers(table, column).reshape(len(table), -1)
                found = group_errors(values, answers)
                score = adjusted_rand_score(truth, found)
                chosen[name].append(f"{score:.2f} ({found.max() + 1})")
                four = AgglomerativeClustering(4).fit_predict(values)
                known[name].append(f"{adjusted_rand_score(truth, four):.2f}")
    head = "| clustered by | its own number of groups (how many) | four groups |\n|---|---|---|\n"
    return head + "".join(
        f"| {name} | {', '.join(chosen[name])} | {', '.join(known[name])} |\n" for name in KINDS
    )


def shortcuts(networks: int) -> str:
    """Return the table of planted shortcuts that were found, and of alarms that were false."""
    kinds: list[tuple[str, dict[str, Any], list[dict[str, int]]]] = [
        ("learned four shortcuts", {}, [{}]),
        (
            "learned them, trained too little for the rest",
            {"pictures": 64},
            [{"epochs": 11}, {"epochs": 13}],
        ),
        (
            "never saw one (twins), trained too little",
            {"names": (), "pictures": 32},
            [{"epochs": epochs} for epochs in (2, 3, 4, 5)],
        ),
    ]
    lines = []
    for name, given, several_times in kinds:
        counts = Counter[str]()
        for seed, more in product(range(30, 30 + networks), several_times):
            model = several.network(seed=seed, **given, **more)
            counts.update(_shortcuts_of(model, seed, learned="names" not in given))
        lines.append(
            f"| {name} | {counts['networks']} | {counts['errors']:,} "
            f"| {counts['found']} of {counts['planted']} | {counts['natural']} "
            f"| {counts['unlike']} | {counts['false']} |\n"
        )
    return (
        "| networks that | how many | errors | planted causes verified | groups of other errors "
        "| of these suspected | verified: false alarms |\n"
        "|---|---|---|---|---|---|---|\n" + "".join(lines)
    )


def _shortcuts_of(model: VisionModel, seed: int, *, learned: bool) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planted = several.write(folder / "data", 30, 300, seed=seed + 1)
        run = diagnose(model, folder / "data", folder / "run", budget=3.0, engine=Local(1))
        assert run.summary is not None
        groups, result = find_error_groups(run), run.summary["shortcuts"]
        cause = {one.file: one.cause for one in planted}
        rows = run.table(["path", "predicted"], wrong=True).to_pylist()
    causes = np.array([cause[row["path"]] for row in rows], dtype=object)
    # Of an error by a planted cause the answer is the one that the cause leads to.
    due = [
        several.LEADS_TO.get(name) == row["predicted"]
        for name, row in zip(causes, rows, strict=True)
    ]
    causes[~np.array(due, dtype=bool) | (not learned)] = "none"
    verified = [one for one in result["found"] if one["verdict"] == "verified"]
    inside = np.isin(groups.groups, [k for one in verified for k in one["groups"]])
    known = [name for name in several.LEADS_TO if (causes == name).sum() >= 8]

    def natural(several_groups: list[int]) -> bool:
        at = np.isin(groups.groups, several_groups)
        return bool((causes[at] == "none").mean() > 0.5)

    return {
        "networks": 1,
        "errors": len(rows),
        "planted": len(known),
        "found": sum(inside[causes == name].mean() > 0.5 for name in known),
        "natural": sum(natural([one["number"]]) for one in groups.described),
        "unlike": sum(natural(one["groups"]) for one in result["found"]),
        "false": sum(natural(one["groups"]) for one in verified),
    }


def labels() -> str:
    """Return the table of flipped labels, for unseen and for training data."""
    images, true = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16
    generator = np.random.default_rng(0)
    order = generator.permutation(len(true))
    given = true.copy()
    flipped = generator.permutation(len(true))[: len(true) // 10]
    given[flipped] = (given[flipped] + generator.integers(1, 10, len(flipped))) % 10
    half = len(true) // 2
    rows = []
    for name, train, test, own in (
        ("data that the model has not seen", order[:half], order[half:], False),
        ("data that it was trained on, flips included", order[half:], order[half:], True),
    ):
        # Unseen labels are flipped, and those that the model learned from are right.
        model = _digits(images[train], given[train] if own else true[train])
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            for i in test:
                file = folder / f"data/{given[i]}/{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((images[i] * 255).round().astype(np.uint8)).save(file)
            run = diagnose(model, folder / "data", folder / "run", budget=0.0, engine=Local(1))
            rows += _judged(run, name, set(flipped.tolist()), own)
    head = "| | AUROC | precision of the most doubtful 10 % | suspected | of these flipped |\n"
    return head + "|---|---|---|---|---|\n" + "".join(rows)


def _judged(run: Run, name: str, flipped: set[int], own: bool) -> list[str]:
    table = run.table(["id", "path", "label", "logits", "features"])
    labels = table["label"].to_numpy()
    wrong = np.array([int(Path(path).stem) in flipped for path in table["path"].to_pylist()])
    p = softmax(run.numbers(table, "logits"))
    features = run.numbers(table, "features")
    head = LogisticRegression(max_iter=500)
    folded = cross_val_predict(head, features / features.std(), labels, method="predict_proba")
    judgement = judge_labels(LabeledRows(run), 10, own=not own)
    assert judgement is not None
    suspects = np.isin(
        table["id"].to_numpy(), [o["id"] for o in find_label_issues(run, trained_on=own)]
    )
    judges = {"cvx": (judgement.wrong, suspects)}
    if own:
        doubt = 1 - p[np.arange(len(labels)), labels]
        judges["the model's own probabilities"] = (doubt, p.argmax(1) != labels)
    judges |= _cleanlab(labels, folded)
    top = len(labels) // 10
    return [
        f"| {name}: {judge} | {roc_auc_score(wrong, score):.3f} "
        f"| {wrong[np.argsort(-score, kind='stable')[:top]].mean():.2f} "
        f"| {int(found.sum())} | {wrong[found].mean() if found.any() else 0:.2f} |\n"
        for judge, (score, found) in judges.items()
    ]


def _cleanlab(labels: np.ndarray[Any, Any], p: np.ndarray[Any, Any]) -> dict[str, Any]:
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    score = 1 - get_label_quality_scores(labels, p, method="normalized_margin")
    found = find_label_issues(labels, p, n_jobs=1)
    return {"Cleanlab on the features, out of fold": (score, found)}


def _digits(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> VisionModel:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())
    module = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    x = torch.tensor(images, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    y = torch.tensor(labels)
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(25):
        for at in torch.randperm(len(y)).split(32):
            optimiser.zero_grad()
            F.cross_entropy(module(x[at]), y[at]).backward()
            optimiser.step()
    preprocess = Preprocess(crop=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    names = tuple(str(k) for k in range(10))
    return VisionModel(module.eval(), preprocess=preprocess, classes=names, name="digits")


if __name__ == "__main__":
    main()
