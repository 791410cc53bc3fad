"""Mutations that the operators of cosmic-ray can make in a package, and a sample of them."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

WORDS = {"name", "string", "fstring_string", "newline", "endmarker"}
PUNCTUATION = set("()[]{},.:=\n")
"""Leaves of the tree that no operator changes; leaving them out makes the search faster."""


@dataclass(frozen=True)
class Mutation:
    """One change of one module: an operator of cosmic-ray at one of its occurrences."""

    module: str
    """Path of the module, relative to the root of the work tree."""
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        """Name of the mutation in results."""
        operator = self.operator.removeprefix("core/")
        return f"{self.module}:{self.line}:{self.column + 1} {operator} {self.occurrence}"


def drawn(root: Path, seed: int, count: int, package: str = "cvx_core") -> list[Mutation]:
    """Mutations drawn at random, one of each module in turn; more of them begin with the same."""
    modules = sorted(p for p in (root / package).rglob("*.py") if not p.name.startswith("__"))
    names = [module.relative_to(root).as_posix() for module in modules]
    random.Random(seed).shuffle(names)
    return list(islice(_in_turn([_shuffled(root, name, seed) for name in names]), count))


def mutated(source: str, mutation: Mutation) -> str | None:
    """Code after the mutation, or None if it is no other program, or no program at all."""
    code: str | None = mutate_code(source, get_operator(mutation.operator)(), mutation.occurrence)
    try:
        same = code is None or ast.dump(ast.parse(code)) == ast.dump(ast.parse(source))
    except SyntaxError:
        return None
    return None if same else code


def mutations(source: str, module: str) -> list[Mutation]:
    """Every mutation of a module, outside annotations and code for type checkers."""
    found = []
    nodes = [n for n in ast_nodes(get_ast(source)) if getattr(n, "value", "") not in PUNCTUATION]
    nodes = [n for n in nodes if n.type not in WORDS]
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue
        positions = ((n, start) for n in nodes for start, _ in operator().mutation_positions(n))
        for occurrence, (node, start) in enumerate(positions):
            if not _for_type_checkers(node):
                found.append(Mutation(module, *start, name, occurrence))
    return found


def _in_turn(streams: list[Iterator[Mutation]]) -> Iterator[Mutation]:
    while streams:
        taken = [(stream, next(stream, None)) for stream in streams]
        yield from (mutation for _, mutation in taken if mutation is not None)
        streams = [stream for stream, mutation in taken if mutation is not None]


def _shuffled(root: Path, module: str, seed: int) -> Iterator[Mutation]:
    """Mutations of a module in random order: one of each position, then a second of each."""
    source = (root / module).read_text()
    every = mutations(source, module)
    random.Random(f"{seed} {module}").shuffle(every)
    before: Counter[tuple[int, int]] = Counter()
    turns = []
    for mutation in every:
        position = mutation.line, mutation.column
        turns.append((before[position], mutation))
        before[position] += 1
    for _, mutation in sorted(turns, key=lambda turn: turn[0]):
        if mutated(source, mutation) is not None:
            yield mutation


def _for_type_checkers(node: Any) -> bool:
    """Whether a node of the tree is in an annotation or runs for type checkers only."""
    if node.type == "decorator" and node.children[1].get_code().strip() == "overload":
        return True
    while (parent := node.parent) is not None:
        annotation = {"annassign": 1, "tfpdef": 2}.get(parent.type)
        if (
            (annotation is not None and node is parent.children[annotation])
            or (parent.type == "funcdef" and node is parent.annotation)
            or (parent.type == "if_stmt" and "TYPE_CHECKING" in parent.children[1].get_code())
        ):
            return True
        node = parent
    return False
