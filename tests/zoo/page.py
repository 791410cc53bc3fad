"""The page of the coverage run."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from zoo.exceptions import why, wrong
from zoo.measure import LARGEST_BESIDE, LIMITS, METHODS, SIDES, problems
from zoo.rivals import COMPLETE, GROWN, RIVALS, SAME

VERDICTS = {
    "right": "a map, and where there is a formula to compare with, its numbers",
    "other numbers": f"a map of the right shape that correlates less than {SAME} with the formula",
    "no map": "an array without the image's proportions, returned without a warning",
    "no grid there": "the library chose a layer by itself whose output is no grid of the image",
    "incomplete": f"attributions whose sum misses their total by more than {COMPLETE:g} of it",
    "grows": f"relevance at the input that is over {GROWN:g} times the score",
    "constant": "the same value everywhere",
    "not finite": "nan or infinity",
    "refused": "an exception",
}

HEAD = """\
# Coverage

Every classification network of torchvision, at least one of each design in timm, and small
configurations of transformers' image classifiers: random weights, no configuration. This page is
written by

```
uv run --group zoo python tests/zoo
```

which takes some hours on two cores and can be stopped and started again. Each network
answers about one image of noise: the four methods with their defaults, the errors of
`gradient-error` and `activation-error` being those against the least likely class. **Covered**
means that all four maps are finite, not constant and of their grid's shape, that
`activation-error` is conserved to {float32:g} in float32 and {float64:g} in float64, relative, at
the layer it chooses and at the input, and that the network is left as found: weights, modes,
gradients, hooks, attributes, random states. The image has {sides[float32]} x {sides[float32]}
pixels ({sides[float64]} x {sides[float64]} in float64), or the network's own size where it takes
no other.
"""

BESIDE = """\
## The same networks in other libraries

With their defaults, on a wrapper that returns the logits alone, on the networks of up to
{largest:.0f} million parameters. captum's `LayerGradCam` and
pytorch-grad-cam need a layer and get the module that cvx found; torchcam finds its own. Grad-CAM is
compared with Selvaraju's formula, computed by plain automatic differentiation at the same
module. Of the others only what needs no opinion is judged: that there is a map, that
DeepLIFT's attributions sum to what they must, and that relevance does not grow on its way.
Canonizers for zennit, `reshape_transform` for pytorch-grad-cam and the like would mend many of
these; they are configuration, network by network, which is what this run is about. **Changed**
counts networks that were not left as found.
"""


def written(results: Sequence[dict[str, Any]]) -> str:
    """Return the page in Markdown."""
    return "\n".join(
        [
            HEAD.format(**LIMITS, sides=SIDES),
            _versions(),
            _summary(results),
            _exceptions(results),
            BESIDE.format(largest=LARGEST_BESIDE / 1e6),
            _rivals(results),
            _every(results),
        ]
    )


def _versions() -> str:
    packages = ("torch", "torchvision", "timm", "transformers", "captum", "grad-cam", "torchcam")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in (*packages, "zennit")]
    return f"Measured with {', '.join(versions)}, on the CPU.\n"


def _summary(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for source in ("torchvision", "timm", "transformers"):
        of_it = [r for r in results if r["network"].startswith(source + ":")]
        good = [r for r in of_it if "failure" not in r]
        covered = [r for r in good if not problems(r)]
        rows.append(
            [
                source,
                str(len(of_it)),
                str(len({r.get("family", r["network"]) for r in of_it})),
                f"{len(covered)}",
                *(_largest(good, dtype, place) for dtype in LIMITS for place in ("layer", "input")),
                f"{median(r['seconds'] for r in good):.1f} s",
            ]
        )
    head = [
        "source", "networks", "designs", "covered", "residual, layer", "input", "float64, layer",
        "input", "all four",
    ]  # fmt: skip
    return (
        "## In short\n\n" + _table(head, rows) + "\n\nResiduals are the largest of all networks. "
        "The last column is the median time of all four methods on one core, finding the place "
        "included.\n"
    )


def _largest(results: Iterable[dict[str, Any]], dtype: str, place: str) -> str:
    return f"{max(_residual(r, dtype, place) or 0.0 for r in results):.1e}"


def _residual(result: dict[str, Any], dtype: str, place: str) -> float | None:
    if dtype == "float64":
        found: float | None = result["float64"].get(place)
    elif place == "input":
        found = result["input_conservation"].get("residual")
    else:
        found = result["methods"]["activation-error"].get("residual")
    return found


def _exceptions(results: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            f"`{r['network']}`",
            problem.replace("\n", " "),
            why(r["network"], problem) or "not explained",
        ]
        for r in results
        for problem in wrong(r)
    ]
    text = _table(["network", "what", "why"], rows) if rows else "None."
    return "## Exceptions\n\n" + text + "\n"


def _rivals(results: Sequence[dict[str, Any]]) -> str:
    asked = [r for r in results if r.get("rivals")]
    shown = list(VERDICTS)
    rows = []
    for name in RIVALS:
        verdicts = Counter(r["rivals"][name]["verdict"] for r in asked)
        changed = sum("left" in r["rivals"][name] for r in asked)
        rows.append([name, *(str(verdicts[v] or "") for v in shown), str(changed or "")])
    clean = sum(not problems(r) for r in asked)
    rows.append(["**cvx, all four**", f"**{clean}**", *[""] * (len(shown) - 1), ""])
    legend = "\n".join(f"- *{verdict}*: {meaning}" for verdict, meaning in VERDICTS.items())
    reasons = []
    for name in RIVALS:
        errors = Counter(
            r["rivals"][name]["error"].split(".")[0].split("\n")[0][:110]
            for r in asked
            if "error" in r["rivals"][name]
        )
        for error, count in errors.most_common(3):
            reasons.append([name, str(count), f"`{error.replace('|', '/')}`"])
    return (
        f"{len(asked)} networks.\n\n"
        + _table(["", *shown, "changed"], rows)
        + "\n\n"
        + legend
        + "\n\nThe commonest refusals:\n\n"
        + _table(["", "networks", "exception"], reasons)
        + "\n"
    )


def _every(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        if "failure" in result:
            rows.append([result["network"], "", "", "", "", "", "", result["failure"][:60]])
            continue
        place = result["methods"]["activation-error"]
        rows.append(
            [
                result["network"],
                f"{result['parameters'] / 1e6:.1f}",
                "x".join(map(str, result["input"][1:])),
                f"`{place.get('layer', '')}`",
                "x".join(map(str, place.get("grid", []))),
                *(_number(_residual(result, dtype, "input")) for dtype in LIMITS),
                "yes" if not problems(result) else "no",
            ]
        )
    head = [
        "network", "parameters / 10⁶", "input", "layer", "grid", "residual at the input",
        "in float64", "covered",
    ]  # fmt: skip
    return (
        f"## Every network\n\nThe {len(METHODS)} methods ran on each; layer and grid are those of "
        "`activation-error`.\n\n" + _table(head, rows) + "\n"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
