"""The mutation run, on a package of a few lines whose tests are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="it is in the dependency group 'mutation'")

from mutation import __main__ as command
from mutation.sample import drawn, mutated, mutations
from mutation.trials import Tree

ROOT = Path(__file__).resolve().parents[2]

SUMS = '''"""Sums."""

from typing import TYPE_CHECKING

if TYPE_CHECKING or False:
    LIMIT = 3


def total(a: int | None, b: int = 2) -> int | str:
    """A sum."""
    return a + b


def unused(a: int, b: int) -> int:
    return a - b
'''
TEST = """from toy.sums import total


def test_the_sum_of_one_and_two() -> None:
    assert total(1) == 3
"""


@pytest.fixture
def toy(tmp_path: Path) -> Tree:
    """A package of which one function is tested."""
    for folder in ("toy", "tests", "plugins"):
        (tmp_path / folder).mkdir()
    (tmp_path / "toy" / "sums.py").write_text(SUMS)
    (tmp_path / "tests" / "test_sums.py").write_text(TEST)
    return Tree(tmp_path)


def test_a_seed_draws_the_same_mutations_again_and_another_seed_others() -> None:
    first = drawn(ROOT, 7, 6, "cvx_core/plugins")
    assert drawn(ROOT, 7, 6, "cvx_core/plugins") == first
    assert drawn(ROOT, 7, 3, "cvx_core/plugins") == first[:3]
    assert drawn(ROOT, 8, 6, "cvx_core/plugins") != first


def test_a_sample_takes_a_mutation_from_each_module_in_turn(toy: Tree) -> None:
    (toy.folder / "toy" / "more.py").write_text("ONE = 1\n")
    (toy.folder / "toy" / "__init__.py").write_text("TWO = 2\n")
    sample = drawn(toy.folder, 7, 100, "toy")
    assert {sample[0].module, sample[1].module} == {"toy/sums.py", "toy/more.py"}
    assert {m.module for m in sample} == {"toy/sums.py", "toy/more.py"}
    assert len(set(sample)) == len(sample) < 100


def test_annotations_and_code_for_type_checkers_are_left_alone() -> None:
    lines = SUMS.splitlines()
    found = {(m.line, m.column) for m in mutations(SUMS, "toy/sums.py")}
    assert {lines[line - 1][column] for line, column in found if line > 7} == {"2", "+", "-"}
    assert not [line for line, _ in found if line == 6]


def test_a_mutation_changes_its_occurrence_only() -> None:
    [minus] = [m for m in mutations(SUMS, "") if m.operator.endswith("Sub_Mul")]
    assert mutated(SUMS, minus) == SUMS.replace("a - b", "a * b")


def outcome_of(toy: Tree, operator: str) -> str:
    [mutation] = [m for m in mutations(SUMS, "toy/sums.py") if m.operator.endswith(operator)]
    [mirrored, *_] = toy.stages("toy/sums.py")
    assert mirrored == ["tests/test_sums.py"]
    with toy.changed(mutation) as code:
        assert (toy.folder / "toy" / "sums.py").read_text() == code != SUMS
        return toy.run(mirrored, 300)[0]


def test_a_mutation_that_a_test_notices_is_caught_and_another_survives(toy: Tree) -> None:
    assert outcome_of(toy, "Add_Mul") == "caught"
    assert outcome_of(toy, "Sub_Add") == "survived"
    assert (toy.folder / "toy" / "sums.py").read_text() == SUMS


def test_tests_that_never_end_are_a_timeout(toy: Tree) -> None:
    (toy.folder / "tests" / "test_sums.py").write_text("while True: pass\n")
    assert toy.run(["tests"], 3)[0] == "timed out"


def test_a_stopped_run_is_resumed_where_it_was(toy: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = drawn(toy.folder, 7, 4, "toy")
    file = toy.folder / "build" / "seed-7.jsonl"
    tried: list[str] = []

    def run(self: Tree, tests: list[str], *_: Any) -> tuple[str, list[str]]:
        if len(tried) == 3:
            raise KeyboardInterrupt
        tried.append((toy.folder / "toy" / "sums.py").read_text())
        return "survived", []

    monkeypatch.setattr(Tree, "run", run)
    with pytest.raises(KeyboardInterrupt):
        command.complete(toy, sample, 0, {}, file)
    rows = {row["mutation"]: row for row in command.read(file)}
    assert list(rows) == ["none", *(m.name for m in sample[:2])]
    tried.clear()
    command.complete(toy, sample, 0, rows, file)
    assert tried == [mutated(SUMS, m) for m in sample[2:]]
    assert [json.loads(line)["mutation"] for line in file.read_text().splitlines()] == list(rows)
    assert "survived: 4" in command.table([rows[m.name] for m in sample])
