"""Pydantic's validation errors as one line that tells users what to fix."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from vlret.settings import EXPERIMENT, PART, PARTS, TABLE, TASK, Config
from vlret.suggest import nearest, suggestion

LONGEST = 100  # characters shown of a value

# Pydantic's error types → the expected type, as named in JSON.
TYPES = {
    "bool_parsing": "boolean",
    "bool_type": "boolean",
    "dict_type": "object",
    "float_parsing": "number",
    "float_type": "number",
    "int_from_float": "integer",
    "int_parsing": "integer",
    "int_type": "integer",
    "list_type": "array",
    "mapping_type": "object",
    "model_attributes_type": "object",
    "model_type": "object",
    "none_required": "null",
    "path_type": "string",
    "string_type": "string",
    "tuple_type": "array",
}
QUOTED = re.compile("'([^']*)'")
LIMITS = {
    "greater_than": "is less than or equal to the minimum of {gt}",
    "greater_than_equal": "is less than the minimum of {ge}",
    "less_than": "is greater than or equal to the maximum of {lt}",
    "less_than_equal": "is greater than the maximum of {le}",
    "string_pattern_mismatch": "does not match {pattern!r}",
    "finite_number": "is not a finite number",
    "too_long": "is too long",
    "string_too_long": "is too long",
}


# Patterns of names → the characters allowed.
NAMES = {
    f"^{PART}$": "letters a-z, digits, + and -, a letter or a digit first",
    f"^{EXPERIMENT}$": "letters a-z, digits, + and - for each part of model_tuning_prefix_pooling",
    f"^{TABLE}$": "letters a-z, digits, _ and -, a letter or a digit first",
    f"^{TASK}$": "letters a-z, digits and _, a letter first",
}


class Fault(NamedTuple):
    """One error: its path in the data, what is wrong, and its sort key."""

    path: tuple[str | int, ...]
    kind: str
    what: str
    order: tuple[float, ...]


def meant(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'size'?` if a known name is similar; else empty.

    Experiment names share most of their letters, so they need a higher similarity.
    """
    return suggestion(nearest(str(name), known, 0.92 if str(name).count("_") == len(PARTS) - 1 else 0.6))


def among(name: str, known: Sequence[str]) -> str:
    """The known names to use instead of an unknown one, the most similar first."""
    return f"{meant(name, known).removeprefix('; ')} known: {', '.join(known)}".strip()


def explain(error: ValidationError, data: object, annotation: Any = Config) -> str:
    """One line, `field.of.a.field: what is wrong`, without the path if that is empty.

    Parameters
    ----------
    error
        Its first error in the order of the data is reported; of a union's alternatives, the deepest one.
    data
        The validated data.
    annotation
        The type it was validated as.
    """
    path, what = first_fault(error, data, annotation)
    return f"{'.'.join(map(str, path))}: {what}" if path else what


def first_fault(error: ValidationError, data: object, annotation: Any = Config) -> tuple[tuple[str | int, ...], str]:
    """The path of the reported error, and what is wrong there; see `explain`."""
    faults = [_fault(details, data, annotation) for details in error.errors(include_url=False)]
    first = min(faults, key=lambda fault: fault.order)
    there = [fault for fault in faults if (fault.path, fault.order) == (first.path, first.order)]
    if first.kind == "missing":
        names = [fault.what for fault in there if fault.kind == "missing"]
        return first.path, f"missing {', '.join(map(repr, names))}"
    if all(fault.kind in TYPES for fault in there):
        kinds = list(dict.fromkeys(TYPES[fault.kind] for fault in there))
        return first.path, f"{first.what} is not of type {', '.join(map(repr, kinds))}"
    return first.path, next(fault.what for fault in there if fault.kind not in TYPES)


def _fault(details: Mapping, data: object, annotation: Any) -> Fault:
    """One of Pydantic's errors, with union tags removed from its location."""
    kind, location, value = details["type"], details["loc"], details["input"]
    context = details.get("ctx", {})
    if kind == "missing":
        path = _place(location[:-1], data, lambda found: found == value)
        return Fault(path, kind, str(location[-1]), (*_order(path, data), inf))
    if location[-1:] == ("[key]",):
        path = _place(location[:-2], data, lambda found: isinstance(found, Mapping) and value in found)
        return Fault(path, kind, _what(kind, value, context, details["msg"]), _order((*path, value), data))
    path = _place(location, data, lambda found: found == value)
    order = (*_order(path, data), inf)
    if kind == "extra_forbidden":
        known = sorted(_fields(annotation, location[:-1]))
        hint = f"; {among(location[-1], known)}" if known else ""
        return Fault(path[:-1], kind, f"unknown key {location[-1]!r}{hint}", order)
    if kind == "union_tag_not_found":
        return Fault(path, "missing", context["discriminator"].strip("'"), order)
    if kind == "union_tag_invalid":
        path, value = (*path, context["discriminator"].strip("'")), context["tag"]
    return Fault(path, kind, _what(kind, value, context, details["msg"]), order)


def _what(kind: str, value: object, context: Mapping, message: str) -> str:
    """What is wrong with a value; for a wrong type, only the value."""
    text = " ".join(repr(value).split())
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    if kind in TYPES:
        return text
    if kind == "string_pattern_mismatch" and context["pattern"] in NAMES:
        return f"{text} is not a name of {NAMES[context['pattern']]}"
    if kind in LIMITS:
        return f"{text} {LIMITS[kind].format(**context)}"
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = context.get("expected") or context["expected_tags"]
        known = QUOTED.findall(allowed)
        return f"{text} is not one of {known or allowed}{meant(value, known)}"
    if kind in ("too_short", "string_too_short"):
        return f"{text} {'is too short' if value else 'should be non-empty'}"
    if kind in ("value_error", "assertion_error"):
        return " ".join(str(context["error"]).split())
    return f"{text}: {' '.join(message.split()).removeprefix('Input ')}"


# ---- Paths in the data ----------------------------------------------------------------------------------------------


def _place(location: Sequence[str | int], data: object, fits: Callable[[object], bool]) -> tuple[str | int, ...]:
    """A location as a path in the data: the first reading whose value fits, else the first reading."""
    readings = list(_readings(tuple(location), data))
    return next((path for path, found in readings if fits(found)), readings[0][0])


def _readings(location: tuple, data: object) -> Iterator[tuple[tuple, object]]:
    """Possible paths of a location, with their values: any part may be a tag, and is if the data lack it."""
    if not location:
        yield (), data
        return
    part, *rest = location
    if _holds(data, part):
        for path, found in _readings(tuple(rest), data[part]):
            yield (part, *path), found
    yield from _readings(tuple(rest), data)


def _holds(data: object, part: str | int) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data)


def _order(path: Sequence[str | int], data: object) -> tuple[int, ...]:
    """The position of each part of a path among its siblings."""
    rows = []
    for part in path:
        rows.append(list(data).index(part) if isinstance(data, Mapping) else part)
        data = data[part]
    return tuple(rows)


# ---- Fields of the classes ------------------------------------------------------------------------------------------


def _fields(annotation: Any, location: Sequence[str | int]) -> list[str]:
    """The fields of the Pydantic class at a location that may contain tags; none for other types."""
    for part in location:
        annotation = _inside(annotation, part)
    alternatives = _alternatives(annotation)
    cls = alternatives[0][1]
    return list(cls.model_fields) if len(alternatives) == 1 and _is_model(cls) else []


def _inside(annotation: Any, part: str | int) -> Any:
    """The annotation of a field, a mapping's value, a list's item, or a union's alternative by tag."""
    alternatives = _alternatives(annotation)
    if len(alternatives) > 1:
        return next((kind for tags, kind in alternatives if part in tags), None)
    kind = alternatives[0][1]
    if _is_model(kind):
        return kind.model_fields[part].annotation if part in kind.model_fields else None
    return get_args(kind)[-1] if get_args(kind) else None


def _alternatives(annotation: Any, tags: frozenset[str] = frozenset()) -> list[tuple[frozenset[str], Any]]:
    """The types that an annotation allows except None, each with Pydantic's possible tags for it."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return _alternatives(inner, tags | {mark.tag for mark in marks if isinstance(mark, Tag)})
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return [alternative for kind in kinds for alternative in _alternatives(kind)]
    return [(tags | (_discriminators(annotation) if _is_model(annotation) else frozenset()), annotation)]


def _discriminators(model: type[BaseModel]) -> frozenset[str]:
    annotations = [field.annotation for field in model.model_fields.values()]
    values = [get_args(annotation) for annotation in annotations if get_origin(annotation) is Literal]
    return frozenset({model.__name__, *(value for value, *others in values if not others)})


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
