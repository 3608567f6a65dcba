"""Accept plain mappings as settings when a stage is called from Python, checked as on the command line."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from vlret.arguments import unwrapped
from vlret.explained import explain
from vlret.files import InputError


def typed(function: Callable) -> Callable:
    """Decorate a function to accept mappings for settings parameters; `InputError` if one is invalid."""

    @functools.wraps(function)
    def call(*arguments, **options):
        bound = inspect.signature(function).bind(*arguments, **options)
        plain = {name: value for name, value in bound.arguments.items() if isinstance(value, Mapping)}
        if plain:
            hints = get_type_hints(function, include_extras=True)
            bound.arguments.update(
                {name: _checked(name, value, hints[name]) for name, value in plain.items() if _is_settings(hints[name])}
            )
        return function(*bound.args, **bound.kwargs)

    return call


def _is_settings(annotation: object) -> bool:
    origin = get_origin(unwrapped(annotation))
    return not (isinstance(origin, type) and issubclass(origin, Mapping))


def _checked(name: str, value: Mapping, annotation: object) -> object:
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{name}: {explain(error, value, annotation)}") from error
