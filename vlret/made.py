"""Provenance of a result: a note beside it with a digest of its settings and, recursively, of its inputs.

Results with equal digests were requested identically, whatever their paths, times and machines. The user's own data
have no note and do not enter the digest: their modification times show whether they changed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from vlret import __version__
from vlret.files import InputError, read_json, write_json
from vlret.signatures import REQUIRED, Signature, signature_of
from vlret.verbs import VERBS

NOTE = "made.json"

# `STAGE VERB` -> the version of its results, for verbs whose results have changed: older ones are made again.
VERSIONS: dict[str, int] = {"lexical index": 3, "retrieval embed": 2, "training train": 2}

# Options that do not affect the result.
RESOURCES = frozenset(
    (
        "batch",
        "batch_size",
        "gpus",
        "heatmap",
        "keep",
        "limits",
        "most_bytes",
        "nodes",
        "out",
        "packages",
        "pins",
        "report",
        "save_minutes",
        "save_steps",
        "shard",
        "sizes",
        "threads",
        "unreadable",
        "workers",
    )
)


def digest(verb: str, version: int, settings: Mapping[str, object], inputs: Mapping[str, Sequence[str]]) -> str:
    """Digest that identifies a result, 16 hexadecimal digits.

    Parameters
    ----------
    verb, version
        `STAGE VERB`, and the version of its results.
    settings
        Its options that are neither paths nor `RESOURCES`, as plain values, without defaults.
    inputs
        Option name -> digests of the paths it names; equal ones count once, so that the number of shards of a store
        does not matter.
    """
    known = {name: list(dict.fromkeys(digests)) for name, digests in sorted(inputs.items()) if digests}
    fields = {"verb": verb, "version": version, "settings": settings, "inputs": known}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def defaults_of(verb: str) -> dict[str, object]:
    """The default of each option of a verb that has one."""
    function = next(row.function for row in VERBS if str(row) == verb)
    parameters = signature_of(function).parameters.items()
    return {name: _plain(parameter.default) for name, parameter in parameters if parameter.default is not REQUIRED}


def without_defaults(verb: str, settings: Mapping[str, object]) -> dict[str, object]:
    """A verb's settings without defaults, so that a new option with a default invalidates no result."""
    defaults = defaults_of(verb)
    return {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}


def version_of(verb: str) -> int:
    """The version of a verb's results."""
    return VERSIONS.get(verb, 1)


def note_of(path: Path) -> Path:
    """Path of a result's note: inside a folder, beside a file."""
    path = Path(path)
    return path / NOTE if path.is_dir() else path.with_name(f".{path.name}.{NOTE}")


def write_note(path: Path, note: Mapping[str, object]) -> None:
    """Write the note of the result `path`: its `digest` and further fields."""
    write_json(note_of(path), note)


def made_by(path: Path) -> str | None:
    """The digest in the note of a result or, failing that, of its closest folder with a note; None without one."""
    path = Path(path)
    for place in (note_of(path), *(folder / NOTE for folder in path.parents)):
        if place.is_file():
            known = read_json(place).get("digest")
            if not isinstance(known, str | None):
                raise InputError(f"{place}: field 'digest' is {type(known).__name__}, expected str; remake {path}")
            return known
    return None


def identity(
    signature: Signature, values: Mapping[str, object], digest_of: Callable[[Path], str | None] = made_by
) -> tuple[dict[str, object], dict[str, list[str]]]:
    """The settings and inputs that identify a result, as `digest` takes them.

    Parameters
    ----------
    signature
        Signature of the verb's function.
    values
        Arguments of the function; typed settings, or what their `brief` returns.
    digest_of
        Digest of an existing or future path, None for the user's own. A path is one input, a list of paths is one input
        in order, and each entry of `{name: path}` is an input `parameter.name`.
    """
    settings: dict[str, object] = {}
    inputs: dict[str, list[str]] = {}
    for name, value in values.items():
        if name in RESOURCES or value is None:
            continue
        parameter = signature.parameters[name]
        if parameter.is_path:
            for option, paths in _paths(name, value).items():
                if digests := [found for path in paths if (found := digest_of(path)) is not None]:
                    inputs[option] = digests
        elif (brief := _plain(value)) != _plain(parameter.default):
            settings[name] = brief
    return settings, inputs


def note(
    verb: str, version: int, settings: Mapping[str, object], inputs: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """The fields of a note: the digest, and everything it covers."""
    known = {"verb": verb, "version": version, "vlret": __version__, "settings": settings, "inputs": inputs}
    return {"digest": digest(verb, version, settings, inputs), **known}


def _paths(name: str, value: object) -> dict[str, Sequence[Path]]:
    if isinstance(value, Mapping):
        return {f"{name}.{part}": [path] for part, path in value.items()}
    return {name: [value] if isinstance(value, (str, Path)) else value}


def _plain(value: object) -> object:
    """A value as plain JSON; typed settings without their defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
