"""Plain English in documentation, docstrings and messages.

A banned word has its replacement beside it. `FOLDERS` lists the folders that are checked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

FOLDERS = ("README.md", "cvx_core", "docs", "plugins")
"""Files and folders that are checked."""

GENERATED = (
    "docs/explanation/planted.md",
    "docs/reference/coverage.md",
    "docs/reference/coverage-dense.md",
    "docs/changelog.md",
)

WORDS = {
    r"\bTODO\b": "a finished sentence",
    r"\belsewise\b": "differently",
    r"\bforetold\b": "predicted",
    r"\bspeaks? (for|against)\b": "supports, opposes",
    r"\btaken for\b": "misclassified as",
    r"\bis not there\b": "not found",
    r"\b(goes|gone) on (wherever|with)\b": "resumable, resumed",
    r"\bcells? by cells?\b": "position by position",
    r"\bspeaks of\b": "describes",
    r"\bcame about\b": "provenance",
    r"\bvouch(es)? for\b": "metrics",
    r"\bsum of the cells\b": "sum over positions",
    r"\bexact values under the pointer\b": "Hover for exact values",
    r"\bis no (image|photograph|target|place|number|part)\b": "is not ...",
    r"\bverbs?\b": "command",
    r"\bphotographs?\b(?= (is|are|was|were|can't|holds)\b)": "image",
    r"\bpictures?\b": "image, figure",
    r"\b(the|an|wrong|right|first) answers?\b": "prediction",
    r"\b(the|its|default|same) questions?\b": "target",
    r"\basked about\b": "target",
    r"\b(the|a) place\b(?! of)": "layer, position",
    r"(?<!ground )(?<!ground-)\bthe truth\b": "ground truth",
    r"\bheld gates\b": "frozen gates",
    r"\bsignal (that is )?held\b": "absorbed relevance",
    r"\bno cell\b": "no position",
    r"\ba (?=(image|error|explanation|explainer|engine|input|overlay)\b)": "an",
    r"\bthere is not an?\b|\ban uniform\b": "there is no, a uniform",
    r"\bour fault\b": "internal error",
    r"\bcan't be answered\b": "invalid arguments",
    r"\bsay nothing but\b": "only print",
    r"\breplace (files|what is) that\b|\breplace what is there\b": "overwrite existing files",
    r"\bnetwork (that )?end(s|ed) its process\b": "crashes the process",
    r"\bthat everything passes\b": "that all paths to the output pass",
    r"\blead around it\b": "bypass it",
    r"\bmagnitude has no position\b": "of the relevance has no spatial position",
    r"\bexists already\b": "File already exists: ...",
    r"\bwhat (was|is|all are|were) (asked|targeted)\b": "arguments, target",
    r"\bordinary file\b": "a regular file",
    r"\bwhat is held\b": "frozen functions",
}
"""Pattern of a banned word or construction, and what to write."""

MESSAGES = {
    r"(?<![Tt]here )\bis no \w+": "Invalid ...: ..., or: ... is not a ...",
    r"\bNo \S+ is called\b": "Unknown ...: ...",
    r"\brefuses\b": "Invalid ...",
    r"\bIt (is|lies|must be) (0|a whole|between|finite)\b": "NAME must be ..., got ...",
    r"\bneeds? ground truth\b": "ground truth required",
    r"\bForeign code\b": "a plugin or model",
    r"\b(was|were) not found, or\b": "File not found: ...",
    r"\bName (its|the) true class\b": "Pass --label ...",
}
"""Pattern of a banned word or construction in a message, and what to write."""

OPENINGS = re.compile(
    r"(What|How|Where|Which|Who|When|Why|Build|Set|Put|Draw|Return|Make|Write|Read|Ask|Say|Tell|"
    r"Run|Find|Take|Give|Do|Count|Hold|Let|Keep|Look|Try|From a|Explain)\b"
)
"""Words that don't open a noun phrase."""

FIELD = {
    *("testing", "recording", "pooling", "padding", "preprocessing", "batching", "embedding"),
    *("embeddings", "rendering", "sampling", "inpainting", "scaling", "matching", "clustering"),
    *("grouping", "segmentation", "integrated", "embedded", "guided", "resampling", "reading"),
}
"""Participles and gerunds that are nouns of the field."""


def files(*suffixes: str) -> Iterator[Path]:
    for folder in FOLDERS:
        path = REPOSITORY / folder
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            hidden = {"tests", ".venv", "build"} & set(file.relative_to(REPOSITORY).parts)
            if file.suffix in suffixes and not hidden and name(file) not in GENERATED:
                yield file


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line numbers and texts of a page or a module's strings, without code."""
    text = file.read_text()
    if file.suffix == ".md":
        text = re.sub(
            r"^(`{3,}).*?^\1|<!-- (?!end).*?<!-- end",
            lambda match: "\n" * match[0].count("\n"),
            text,
            flags=re.S | re.M,
        )
        text = re.sub(r"`[^`\n]*`|\]\([^)\n]*\)", "", text)
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, re.sub(r"`[^`\n]*`", "", node.value)


def messages(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line numbers and texts in the arguments of errors, notes and options."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and re.search(
            r"(Error|note|option)$", ast.unparse(node.func)
        ):
            for part in ast.walk(node):
                if isinstance(part, ast.JoinedStr):
                    yield part.lineno, re.sub(r"{.*?}", "X", ast.unparse(part))
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


@pytest.mark.parametrize("pattern", WORDS, ids=WORDS.values())
def test_banned_words_are_replaced(pattern: str) -> None:
    found = [
        f"{name(file)}:{line}: {match[0]!r}; write: {WORDS[pattern]}"
        for file in files(".md", ".py")
        for line, text in prose(file)
        if (match := re.search(pattern, " ".join(text.split()), re.I))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("pattern", MESSAGES, ids=MESSAGES.values())
def test_messages_name_what_is_wrong_and_what_is_expected(pattern: str) -> None:
    found = [
        f"{name(file)}:{line}: {match[0]!r}; write: {MESSAGES[pattern]}"
        for file in files(".py")
        for line, text in messages(file)
        if (match := re.search(pattern, " ".join(text.split())))
    ]
    assert not found, "\n".join(found)


def test_the_docstring_of_a_module_opens_with_a_noun_phrase() -> None:
    found = [
        f"{name(file)}: {doc.splitlines()[0]}"
        for file in files(".py")
        if (doc := ast.get_docstring(ast.parse(file.read_text()))) and OPENINGS.match(doc)
    ]
    assert not found, "\n".join(found)


def test_no_module_is_named_by_a_participle_or_gerund() -> None:
    found = [
        name(file)
        for file in files(".py")
        for word in [file.stem.strip("_").split("_")[-1]]
        if word not in FIELD and re.fullmatch(r"[a-z]{2,}(ing|ed)", word)
    ]
    assert not found, "\n".join(found)
