"""Docstrings of the public API: complete numpydoc, checked against signatures and what the code raises."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import crp_kit
from crp_kit import errors

SECTIONS = (
    "Parameters", "Attributes", "Methods", "Returns", "Yields", "Other Parameters", "Raises", "Warns", "Warnings",
    "See Also", "Notes", "References", "Examples",
)  # fmt: skip
"""Sections of numpydoc in their order."""
_UNDERLINED = re.compile(r"^(\S.*)\n-{3,}$", re.MULTILINE)
_ENTRY = re.compile(
    r"^(?P<names>[\w*][\w*, ]*?)(?: : (?P<type>.+))?\n(?P<meaning>(?:(?:[ ]+\S.*)?(?:\n|$))*)", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A parameter, field or error as a section describes it."""

    type: str
    meaning: str


def sections_of(docstring: str) -> dict[str, str]:
    """Text of each section of a docstring, in their order; the summary and what follows it under ""."""
    parts = _UNDERLINED.split(docstring)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def entries_of(section: str) -> dict[str, Entry]:
    """Entries of a section by name, without stars; names that share an entry have it each."""
    entries = {}
    for match in _ENTRY.finditer(section.strip("\n") + "\n"):
        entry = Entry((match["type"] or "").strip(), " ".join((match["meaning"] or "").split()))
        entries |= {name.strip(" *"): entry for name in match["names"].split(",")}
    return entries


def public_objects() -> Iterator[tuple[str, Any, type | None]]:
    """(name, function or class, class that it is a member of) of everything public."""
    for name in crp_kit.__all__:
        thing = getattr(crp_kit, name)
        if inspect.isclass(thing):
            yield name, thing, None
            yield from members_of(name, thing)
        elif inspect.isfunction(thing):
            yield name, thing, None


def members_of(name: str, cls: type) -> Iterator[tuple[str, Any, type]]:
    """Public methods and properties of a class that crp-kit has written, its call included."""
    for member in dir(cls):
        value = inspect.getattr_static(cls, member)
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        own = inspect.isfunction(function) and function.__module__.startswith("crp_kit")
        if own and (member == "__call__" or not member.startswith("_")):
            yield f"{name}.{member}", value if isinstance(value, property) else function, cls


def family(thing: Any, cls: type | None) -> list[str]:
    """Docstrings that describe a thing: its own, and those of the classes or methods that it inherits from."""
    if inspect.isclass(thing):
        family = [vars(base) for base in thing.__mro__ if base.__module__.startswith("crp_kit")]
        docstrings = [values.get("__doc__") for values in family]
        docstrings += [inspect.getdoc(values["__init__"]) for values in family if "__init__" in values]
    elif cls is not None:
        name = thing.fget.__name__ if isinstance(thing, property) else thing.__name__
        docstrings = [getattr(vars(base).get(name), "__doc__", None) for base in cls.__mro__]
    else:
        docstrings = [thing.__doc__]
    return [inspect.cleandoc(docstring) for docstring in docstrings if docstring]


def parameters_of(thing: Any, cls: type | None) -> list[str]:
    """Names of the parameters that a caller gives."""
    if isinstance(thing, property):
        return []
    if inspect.isclass(thing):
        written = any("__init__" in vars(base) for base in thing.__mro__ if base.__module__.startswith("crp_kit"))
        return [*inspect.signature(thing).parameters] if written else []
    names = [*inspect.signature(thing).parameters]
    static = cls is not None and isinstance(inspect.getattr_static(cls, thing.__name__), staticmethod)
    return names if cls is None or static else names[1:]


def written_function(thing: Any) -> Callable[..., Any] | None:
    """The function whose lines run when a thing is called or read; None where it is made by ``dataclass``."""
    function = vars(thing).get("__init__") if inspect.isclass(thing) else getattr(thing, "fget", thing)
    return function if inspect.isfunction(function) and function.__code__.co_filename != "<string>" else None


def raised_by(function: Callable[..., Any] | None) -> set[type]:
    """Errors of crp-kit that the lines of a function raise."""
    if function is None:
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    names = [call.func.id for call in calls if isinstance(call.func, ast.Name)]
    classes = [getattr(errors, name, None) for name in names]
    return {error for error in classes if inspect.isclass(error) and issubclass(error, crp_kit.CrpKitError)}


OBJECTS = {name: (thing, cls) for name, thing, cls in public_objects()}


def test_the_parser_reads_names_types_and_meanings() -> None:
    parameters = "Parameters\n----------\na, b : int\n    Two\n    terms.\n\n**c\n    Rest.\nd : str\n"
    docstring = f"Sum.\n\nMore.\n\n{parameters}\nReturns\n-------\nint\n    It."
    sections = sections_of(docstring)
    assert [*sections] == ["", "Parameters", "Returns"]
    assert entries_of(sections["Parameters"]) == {
        "a": Entry("int", "Two terms."),
        "b": Entry("int", "Two terms."),
        "c": Entry("", "Rest."),
        "d": Entry("str", ""),
    }


def test_every_docstring_begins_with_a_summary_of_one_sentence() -> None:
    summaries = {name: (family(*described) or [""])[0].split("\n\n")[0] for name, described in OBJECTS.items()}
    assert {name: text for name, text in summaries.items() if not text.endswith(".") or "\n---" in text} == {}


def test_sections_are_those_of_numpydoc_in_their_order() -> None:
    wrong = {}
    for name, described in OBJECTS.items():
        for docstring in family(*described):
            sections = [section for section in sections_of(docstring) if section]
            if sections != [section for section in SECTIONS if section in sections]:
                wrong[name] = sections
    assert wrong == {}


def test_parameters_all_have_a_type_and_a_meaning() -> None:
    missing = {}
    for name, described in OBJECTS.items():
        entries: dict[str, Entry] = {}
        for docstring in reversed(family(*described)):
            for section in ("Parameters", "Attributes", "Other Parameters"):
                entries |= entries_of(sections_of(docstring).get(section, ""))
        explained = {parameter for parameter, entry in entries.items() if entry.type and entry.meaning}
        missing[name] = [parameter for parameter in parameters_of(*described) if parameter not in explained]
    assert {name: parameters for name, parameters in missing.items() if parameters} == {}


def test_errors_that_its_lines_raise_are_listed() -> None:
    missing = []
    for name, (thing, cls) in OBJECTS.items():
        listed = {error for text in family(thing, cls) for error in entries_of(sections_of(text).get("Raises", ""))}
        raised = raised_by(written_function(thing))
        missing += [(name, error) for error in raised if not {base.__name__ for base in error.__mro__} & listed]
    assert missing == []


def test_methods_and_properties_are_among_what_is_checked() -> None:
    assert len(OBJECTS) > 150
