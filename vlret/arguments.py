"""A verb's command line: one option per parameter of its function, parsed and validated by the parameter's type."""

import argparse
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from vlret.explained import explain
from vlret.files import InputError, read_json
from vlret.signatures import REQUIRED, Parameter, Signature

METAVARS = {Path: "PATH", str: "TEXT", int: "INT", float: "NUMBER"}
SEVERAL = (list, Sequence)
FILES = '@FILE reads options from a JSON object, {"option": value}; options on the command line take precedence.'


@dataclass(frozen=True)
class Option:
    """The option of a parameter: its name with dashes, its type from the annotation.

    Text, numbers, paths and choices are given literally, lists as several values, mappings of paths as NAME=PATH, and
    everything else as JSON.
    """

    name: str
    annotation: Any
    parameter: Parameter

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def default(self) -> object:
        """The value if the option is not given; `REQUIRED` if it must be."""
        if self.parameter.default is not REQUIRED:
            return self.parameter.default
        if NoneType in get_args(_without_metadata(self.annotation)):
            return None
        return {} if _names_paths(unwrapped(self.annotation)) else REQUIRED

    def add_to(self, parser: argparse.ArgumentParser, required: bool) -> None:
        """Declare the option; if not given, it is absent from the result."""
        text = " ".join(filter(None, (self.parameter.help, _note(self.default)))).replace("%", "%%")
        parser.add_argument(self.flag, help=text, required=required, default=argparse.SUPPRESS, **self._how())

    def _how(self) -> dict[str, Any]:
        """Keyword arguments of `add_argument`."""
        kind = unwrapped(self.annotation)
        if kind is bool:
            return {"action": argparse.BooleanOptionalAction}
        if (item := _item(kind)) is not None:
            return {"nargs": "+" if self.default is REQUIRED else "*", "action": "extend", **_scalar(item)}
        if _names_paths(kind):
            return {"nargs": "*", "action": "extend", "type": _named_path, "metavar": "NAME=PATH"}
        return _scalar(kind) or {"type": _json, "metavar": "JSON"}

    def read(self, given: object, place: str) -> object:
        """Validate a given value; raises `InputError` that begins with `place`."""
        if isinstance(given, list) and _names_paths(unwrapped(self.annotation)):
            given = _merged(given, place)
        return validated(self.annotation, given, place)


def validated(annotation: Any, given: object, place: str) -> object:
    """A value as its annotation has it; an `InputError` begins with its place."""
    try:
        return TypeAdapter(annotation).validate_python(given)
    except ValidationError as error:
        raise InputError(f"{place}: {explain(error, given, annotation)}") from error


class Parser(argparse.ArgumentParser):
    """Reports errors in one line, without the usage, which may fill a screen."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"vlret: error: {message.removeprefix('argument ')}\n")


def options_of(function: Callable, signature: Signature) -> list[Option]:
    """The options of a function, in the order of its parameters."""
    annotations = get_type_hints(function, include_extras=True)
    return [Option(name, annotations[name], parameter) for name, parameter in signature.parameters.items()]


def parse(
    verb: str, function: Callable, signature: Signature, arguments: Sequence[str]
) -> tuple[dict[str, object], dict[str, object]]:
    """Parse a command line, `@FILE` included, into the given values and the defaults of all other parameters.

    Exits the process on an invalid value. A file is a JSON object, `{option: value}`; options on the command line
    override files, and later files override earlier ones.
    """
    options = {option.name: option for option in options_of(function, signature)}
    parser = Parser(
        prog=f"vlret {verb}",
        usage="%(prog)s [@FILE] [--OPTION VALUE ...]",
        description=signature.description,
        epilog=FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    try:
        given = _from_files([argument[1:] for argument in arguments if argument.startswith("@")], options)
        for name, option in options.items():
            option.add_to(parser, required=option.default is REQUIRED and name not in given)
        typed = vars(parser.parse_args([argument for argument in arguments if not argument.startswith("@")]))
        given |= {name: (value, options[name].flag) for name, value in typed.items()}
        values = {name: options[name].read(value, place) for name, (value, place) in given.items()}
    except InputError as error:
        parser.error(str(error))
    left = {name: option.default for name, option in options.items() if name not in values}
    return values, left


def _from_files(paths: Iterable[str], options: Mapping[str, Option]) -> dict[str, tuple[object, str]]:
    """The options of files by name, each as `(value, place)`."""
    given = {}
    for path in paths:
        for name, value in read_json(Path(path)).items():
            option = options.get(name.replace("-", "_"))
            if option is None:
                raise InputError(f"{path}: unknown option {name!r}; known: {', '.join(sorted(options))}")
            given[option.name] = value, f"{path}: {option.flag}"
    return given


def unwrapped(annotation: Any) -> Any:
    """An annotation without None and without `Annotated` metadata."""
    annotation = _without_metadata(annotation)
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return unwrapped(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def _without_metadata(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _item(kind: Any) -> Any:
    """The item type of a list of scalars; None for anything else."""
    item = unwrapped(get_args(kind)[0]) if get_origin(kind) in SEVERAL and get_args(kind) else None
    return item if _scalar(item) else None


def _names_paths(kind: Any) -> bool:
    """Whether a type maps names to paths."""
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping) and get_args(kind) == (str, Path)


def _scalar(kind: Any) -> dict[str, Any]:
    """Keyword arguments of `add_argument` for a scalar; empty for other types."""
    if get_origin(kind) is Literal:
        return {"type": type(get_args(kind)[0]), "choices": get_args(kind)}
    return {"type": str if kind is Path else kind, "metavar": METAVARS[kind]} if kind in METAVARS else {}


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from error


def _named_path(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    return name, path


def _merged(pairs: Iterable[tuple[str, str]], place: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for name, path in pairs:
        if name in merged:
            raise InputError(f"{place}: {name!r} is given twice")
        merged[name] = path
    return merged


def _note(default: object) -> str:
    """The help text of a default, as it would be given."""
    if default is REQUIRED:
        return "(required)"
    if default in (None, "", (), {}):
        return ""
    given = map(str, default) if isinstance(default, (list, tuple)) else [str(default)]
    return f"(default: {shlex.join(given)})"
