"""Read config files, merge them and check the result; an error is one line with file and field."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from vlret.explained import first_fault
from vlret.files import InputError
from vlret.settings import Config
from vlret.validation import mistake
from vlret.yamls import read

MODELS = "config/models.yaml"
DEFAULT = "config/config.yaml"
# Mappings that a later file replaces as a whole, so that it can drop entries.
REPLACED = frozenset(("ablations", "fusions", "grid", "negatives", "tasks"))
GIVEN = "--config"


def load_config(paths: Iterable[Path], root: Path = Path(), given: Mapping | None = None) -> Config:
    """Read, merge and check config files; later ones override earlier ones.

    Parameters
    ----------
    paths
        The files, except `config/models.yaml`, which always comes first.
    root
        The workflow's folder, which contains `config/`.
    given
        Values from the command line; these override all files.

    Raises
    ------
    InputError
        One line with the file, the field and the allowed values.
    """
    parts = [(str(path), read(root / path)) for path in (MODELS, *paths)]
    return check([*parts, (GIVEN, given)] if given else parts)


def check(parts: Sequence[tuple[str, Mapping]]) -> Config:
    """Merge `(file, values)` pairs in order into a typed config; `InputError` if it is invalid."""
    merged: dict = {}
    for _, values in parts:
        merged = lay_over(merged, values)
    try:
        config = Config(**merged)
    except ValidationError as error:
        path, what = first_fault(error, merged)
        message = f"{'.'.join(map(str, path)) or 'top level'}: {what}"
    else:
        message = mistake(config)
        if message is None:
            return config
    raise InputError(f"{_holder(message, parts)}: {message}")


def lay_over(low: Mapping, high: Mapping) -> dict:
    """`low` updated by `high`: mappings recursively, except those in `REPLACED`; null removes a key."""
    merged = copy.deepcopy(dict(low))
    for key, value in high.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merge = key not in REPLACED and isinstance(below, Mapping)
            merged[key] = lay_over(below if merge else {}, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _holder(message: str, parts: Sequence[tuple[str, Mapping]]) -> str:
    """The last file that contains the longest part of the message's field; all files if none contains any."""
    field = message.partition(": ")[0]
    if field == "top level":
        named = message.partition("unknown key '")[2].partition("'")[0]
        field = named or field
    depths = [_depth(values, field) for _, values in parts]
    if not max(depths):
        return " + ".join(path for path, _ in parts)
    return next(
        path for (path, _), depth in zip(reversed(parts), reversed(depths), strict=True) if depth == max(depths)
    )


def _depth(values: object, field: str) -> int:
    """How many leading parts of a dotted field exist in `values`; keys may contain dots."""
    if isinstance(values, list):
        first, _, rest = field.partition(".")
        if first.isdigit() and int(first) < len(values):
            return 1 + (_depth(values[int(first)], rest) if rest else 0)
        return 0
    if not isinstance(values, Mapping):
        return 0
    for key, value in values.items():
        if field == str(key):
            return 1
        if field.startswith(f"{key}."):
            return 1 + _depth(value, field[len(str(key)) + 1 :])
    return 0
