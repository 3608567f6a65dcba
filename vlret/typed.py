"""Accept plain mappings as settings when a stage is called from Python, checked as on the command line."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import get_origin, get_type_hints

from vlret.arguments import unwrapped, validated


def typed(function: Callable) -> Callable:
    """Decorate a function to accept mappings for settings parameters; `InputError` if one is invalid."""

    @functools.wraps(function)
    def call(*arguments, **options):
        bound = inspect.signature(function).bind(*arguments, **options)
        hints = get_type_hints(function, include_extras=True)
        for name, value in bound.arguments.items():
            if isinstance(value, Mapping) and _is_settings(hints[name]):
                bound.arguments[name] = validated(hints[name], value, name)
        return function(*bound.args, **bound.kwargs)

    return call


def _is_settings(annotation: object) -> bool:
    origin = get_origin(unwrapped(annotation))
    return not (isinstance(origin, type) and issubclass(origin, Mapping))
