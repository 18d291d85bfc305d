"""Code of a function as text that is the same under all versions of Python, and the global names that it reads."""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

__all__ = ["code_text", "globals_read"]

_WITHOUT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_params", "annotation", "returns", "name"})
"""Fields of the syntax tree that change nothing of what a function does, or that not all versions of Python have."""
_CONSTANTS = frozenset({"LOAD_CONST", "RETURN_CONST", "LOAD_SMALL_INT", "KW_NAMES"})
_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_NAMES = _GLOBALS | {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "IMPORT_NAME"}
_OPERATORS = {
    "ADD": "+", "SUBTRACT": "-", "MULTIPLY": "*", "TRUE_DIVIDE": "/", "FLOOR_DIVIDE": "//", "MODULO": "%",
    "POWER": "**", "MATRIX_MULTIPLY": "@", "AND": "&", "OR": "|", "XOR": "^", "LSHIFT": "<<", "RSHIFT": ">>",
    "SUBSCR": "[]",
}  # fmt: skip
"""Operators by the names that their instructions have in Python 3.10."""
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def code_text(function: FunctionType) -> str:
    """Return the code of a function: the syntax tree of its source, or where there is none its instructions in part.

    Names of functions, comments, docstrings and annotations do not count. Without a source, constants, names and
    operators count in their order, which all versions of Python have alike, and the flow between them does not.
    """
    definition = _definition(function.__code__)
    return " ".join(_instructions(function.__code__) if definition is None else _syntax(definition))


def globals_read(code: CodeType) -> list[str]:
    """Return the global names that a function, and those inside it, read, in alphabetical order."""
    names = {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in _GLOBALS}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(globals_read(constant))
    return sorted(names)


def _definition(code: CodeType) -> _Definition | None:
    """Return the node of a function in the source of its file, if that is still the source it was compiled from."""
    try:
        tree = ast.parse("".join(inspect.findsource(code)[0]))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError, RecursionError):
        return None
    definitions = (node for node in ast.walk(tree) if isinstance(node, _Definition))
    here = (node for node in definitions if _first_line(node) == code.co_firstlineno)
    return next((node for node in here if _is_same(_compiled(node, code.co_freevars), code)), None)


def _first_line(node: _Definition) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _compiled(node: _Definition, around: Sequence[str]) -> CodeType | None:
    """Return the code of a function's node alone, in a function that has the names which it takes from around it."""
    if isinstance(node, ast.Lambda):
        inner: ast.stmt = ast.Expr(node)
    else:
        fields = {**dict(ast.iter_fields(node)), "decorator_list": []}
        inner = type(node)(**fields, lineno=node.lineno, col_offset=node.col_offset)
    module: Any = ast.parse(f"def around({', '.join(around)}): pass")
    module.body[0].body = [inner]
    try:
        whole = compile(ast.fix_missing_locations(module), "<function>", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return None
    codes = [inner_code for inner_code in _codes(next(_codes(whole))) if inner_code.co_firstlineno == node.lineno]
    return codes[-1] if codes else None  # after those of its defaults


def _codes(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _is_same(code: CodeType | None, other: CodeType) -> bool:
    """Return whether two codes have the same instructions, names and constants, wherever they are from."""
    if code is None or any(
        getattr(code, name) != getattr(other, name) for name in ("co_code", "co_names", "co_varnames", "co_freevars")
    ):
        return False
    return len(code.co_consts) == len(other.co_consts) and all(
        _is_same(first, second)
        if isinstance(first, CodeType) and isinstance(second, CodeType)
        else type(first) is type(second) and _constant(first) == _constant(second)
        for first, second in zip(code.co_consts, other.co_consts, strict=True)
    )


def _syntax(node: Any) -> Iterator[str]:
    """Yield the words of a syntax tree."""
    if isinstance(node, list):
        yield "["
        for item in node:
            yield from _syntax(item)
        yield "]"
    elif isinstance(node, ast.AST):
        yield type(node).__name__
        for field, value in ast.iter_fields(node):
            is_name = field == "name" and not isinstance(node, _Definition)
            if value not in (None, []) and (field not in _WITHOUT_MEANING or is_name):
                yield field
                yield from _syntax(value[1:] if field == "body" and _has_docstring(value) else value)
    else:
        yield _constant(node)


def _has_docstring(body: Any) -> bool:
    first = body[0] if isinstance(body, list) else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _instructions(code: CodeType) -> Iterator[str]:
    """Yield the constants, names and operators of a code in their order."""
    for instruction in dis.get_instructions(code):
        operation, _, operator = instruction.opname.partition("_")
        if instruction.opname in _CONSTANTS:
            if isinstance(instruction.argval, CodeType):
                yield from _instructions(instruction.argval)
            elif instruction.argval is not None:
                yield _constant(instruction.argval)
        elif instruction.opname in _NAMES:
            yield str(instruction.argval)
        elif instruction.opname.startswith("LOAD_FAST") and not instruction.opname.endswith("CLEAR"):
            yield from [instruction.argval] if isinstance(instruction.argval, str) else instruction.argval
        elif instruction.opname == "BINARY_OP":
            yield instruction.argrepr
        elif operation in ("BINARY", "INPLACE"):
            yield _OPERATORS.get(operator, operator) + "=" * (operation == "INPLACE")
        elif instruction.opname in ("COMPARE_OP", "IS_OP", "CONTAINS_OP"):
            yield (
                instruction.argrepr.removeprefix("bool(").removesuffix(")") or f"{instruction.opname} {instruction.arg}"
            )
        elif operation == "UNARY":
            yield operator


def _constant(value: Any) -> str:
    """Return a constant as text; a set of strings has another order in each process."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
