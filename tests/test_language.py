"""Words of the package: public names, file names and module docstrings use the field's plain technical English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import crp_kit

PACKAGE = Path(__file__).parent.parent / "crp_kit"
MODULES = sorted(PACKAGE.rglob("*.py"))

PHRASES = (
    "told", "tell", "tells", "books", "twin", "twins", "minds", "lie", "lies", "who took", "how much who",
    "take turns", "takes turns", "taking turns", "value by value", "is none", "another word", "nobody", "nowhere",
)  # fmt: skip
"""Not in a module docstring."""
WORDS = {"told", "tell", "tells", "books", "twin", "twins", "minds", "turns", "texts"}
"""Not a part of a public name."""
NAMES = {"found", "place", "given", "one", "several", "made"}
"""Not a public name: it says nothing of what it holds."""
FILES = {
    "chance", "tape", "probe", "known", "draws", "ledger", "slices", "passes", "workplace", "job", "terms", "units",
    "choices", "sheets", "tree", "kinds",
}  # fmt: skip
"""Not the name of a module or folder."""
QUESTIONS = {"what", "which", "whether", "where", "when", "why", "who", "how"}
"""Not the first word of a module docstring, which begins with a noun or a verb."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def module_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix(""))


def phrases_in(text: str) -> list[str]:
    """Banned phrases in a text, whatever their case and however its lines break."""
    plain = " ".join(text.lower().split())
    return [phrase for phrase in PHRASES if re.search(rf"\b{phrase}\b", plain)]


def words_of(name: str) -> set[str]:
    """Words of an identifier such as ``start_layer`` or ``ConditionSet``."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public functions and classes of a module, and public methods of its public classes."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def parameters(node: Definition) -> list[str]:
    """Names of a function's parameters, or of the fields of a class."""
    if isinstance(node, ast.ClassDef):
        fields = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
        return [field.id for field in fields if isinstance(field, ast.Name)]
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
    return [argument.arg for argument in every if argument is not None]


def names_in(module: ast.Module) -> set[str]:
    """Every public name of a module: functions, classes, methods, parameters and fields."""
    names: set[str] = set()
    for node in public(module.body):
        names |= {node.name, *(name for name in parameters(node) if not name.startswith("_"))}
    return names


def test_the_words_of_a_name_are_found_in_every_spelling() -> None:
    assert words_of("start_layer") == {"start", "layer"}
    assert words_of("ConditionSet") == {"condition", "set"}
    assert words_of("who_told2_HTTPBooks") == {"who", "told", "http", "books"}
    source = "class A:\n    b: int\n    def c(self, *d, e=1, **f): ...\ndef _g(h): ...\n"
    assert names_in(ast.parse(source)) == {"A", "b", "c", "self", "d", "e", "f"}
    assert phrases_in("Relevance\ntakes   turns; Tells who took it.") == ["tells", "who took", "takes turns"]
    assert phrases_in("Belief, retold, twinned.") == []


def test_public_names_of_the_package_hold_no_banned_word() -> None:
    assert {name: words_of(name) & WORDS for name in crp_kit.__all__ if words_of(name) & WORDS} == {}


@cache
def trees() -> dict[str, ast.Module]:
    """Every module, parsed when the first test needs it: each process of a run collects these tests."""
    return {module_of(path): ast.parse(path.read_text()) for path in MODULES}


def docstrings() -> dict[str, str]:
    return {module: ast.get_docstring(tree) or "" for module, tree in trees().items()}


def test_each_module_has_a_docstring_that_begins_with_a_noun_or_a_verb() -> None:
    first = {module: docstring.split()[:1] for module, docstring in docstrings().items()}
    assert [module for module, words in first.items() if not words or words[0].lower().rstrip(",:") in QUESTIONS] == []


def test_no_module_has_a_banned_phrase_in_its_docstring() -> None:
    phrases = {module: phrases_in(docstring) for module, docstring in docstrings().items()}
    assert {module: banned for module, banned in phrases.items() if banned} == {}


def test_no_module_has_a_banned_word_in_its_public_names() -> None:
    names = [(module, name) for module, tree in trees().items() for name in names_in(tree)]
    assert [(module, name) for module, name in names if words_of(name) & WORDS or name in NAMES] == []


def test_each_module_has_a_name_that_says_what_it_is() -> None:
    assert [module for module in trees() if FILES & set(module.split("/"))] == []
