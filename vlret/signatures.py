"""Function signatures read from source, which avoids the slow import of the module."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes
    ----------
    help
        Its entry in the docstring's `Parameters` section; empty without one.
    default
        A literal, or `REQUIRED`.
    is_path
        Whether its value is a path, several paths, or paths by name.
    """

    help: str
    default: object
    is_path: bool


@dataclass(frozen=True)
class Signature:
    """A function's parameters by name, and its docstring: the first line, and all text before its sections."""

    summary: str
    description: str
    parameters: Mapping[str, Parameter]


@cache
def signature_of(function: str) -> Signature:
    """The signature of "module:function", defined at the top level of a module of this package.

    Raises
    ------
    ValueError
        If there is no such function, or a default is not a literal.
    """
    module, _, name = function.partition(":")
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            docstring = ast.get_docstring(node) or ""
            lines = docstring.splitlines()
            before = lines[: next(_sections(lines), len(lines))]
            helps = parameter_help(docstring)
            parameters = {
                each.arg: Parameter(helps.get(each.arg, ""), _default(function, each, default), _names_path(each))
                for each, default in _arguments(node.args)
            }
            return Signature(lines[0] if lines else "", "\n".join(before).strip(), parameters)
    raise ValueError(f"{function}: the module defines no such function")


@cache
def docstring_of(module: str) -> str:
    """The docstring of a module of this package."""
    return ast.get_docstring(_tree(module)) or ""


def parameter_help(docstring: str) -> dict[str, str]:
    """Each parameter's entry in the `Parameters` section of a numpydoc docstring, on one line."""
    lines = docstring.splitlines()
    starts = [*_sections(lines), len(lines)]
    helps: dict[str, list[str]] = {}
    names: list[str] = []
    for start, end in pairwise(starts):
        for line in lines[start + 2 : end] if lines[start] == "Parameters" else []:
            if line and not line[0].isspace():
                names = [name.strip() for name in line.partition(" : ")[0].split(",")]
            else:
                for name in names:
                    helps.setdefault(name, []).append(line.strip())
    return {name: " ".join(" ".join(text).split()) for name, text in helps.items()}


def _sections(lines: Sequence[str]) -> Iterator[int]:
    """The line indices of a docstring's underlined headings."""
    return (row for row, line in enumerate(lines[1:]) if line and not line.strip("-"))


def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _arguments(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """The parameters of a function with their defaults."""
    positional = [*arguments.posonlyargs, *arguments.args]
    yield from zip(positional, [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults, strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _default(function: str, argument: ast.arg, default: ast.expr | None) -> object:
    try:
        return REQUIRED if default is None else ast.literal_eval(default)
    except ValueError as error:
        raise ValueError(f"{function}: the default of {argument.arg} must be a literal") from error


def _names_path(argument: ast.arg) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "Path" for node in ast.walk(argument))
