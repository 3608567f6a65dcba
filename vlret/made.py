"""What made a result: a note beside it, whose digest covers the settings, and those of all that it was made from.

Two results with the same digest were asked for in the same way, whatever their paths, times and machines. Data of the
user's own have no note and do not enter: whether those changed is told by their times.
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

# `STAGE VERB` -> the version of what it makes, for those whose results have changed: a new one is made anew.
VERSIONS: dict[str, int] = {"lexical index": 2}

# Options that say how a job works and not what it makes.
RESOURCES = frozenset(
    (
        "batch",
        "batch_size",
        "gpus",
        "heatmap",
        "limits",
        "most_bytes",
        "nodes",
        "out",
        "packages",
        "pins",
        "report",
        "save_steps",
        "shard",
        "sizes",
        "threads",
        "unreadable",
        "workers",
    )
)


def digest(verb: str, version: int, settings: Mapping[str, object], inputs: Mapping[str, Sequence[str]]) -> str:
    """What a result is known by, in 16 hexadecimal digits.

    Parameters
    ----------
    verb, version
        `STAGE VERB`, and the version of what it makes, which changes when its results do.
    settings
        Its options that are neither paths nor `RESOURCES`, as plain values, defaults left out.
    inputs
        Name of an option -> the digests of what it names; equal ones count once, so that it does not matter in how many
        shards a store was made.
    """
    known = {name: list(dict.fromkeys(digests)) for name, digests in sorted(inputs.items()) if digests}
    told = {"verb": verb, "version": version, "settings": settings, "inputs": known}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def defaults_of(verb: str) -> dict[str, object]:
    """The options of a verb that have a default, with it."""
    function = next(row.function for row in VERBS if str(row) == verb)
    parameters = signature_of(function).parameters.items()
    return {name: _plain(parameter.default) for name, parameter in parameters if parameter.default is not REQUIRED}


def without_defaults(verb: str, settings: Mapping[str, object]) -> dict[str, object]:
    """A verb's settings as its results are known by: a new option with a default makes nothing anew."""
    defaults = defaults_of(verb)
    return {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}


def version_of(verb: str) -> int:
    """The version of what a verb makes."""
    return VERSIONS.get(verb, 1)


def note_of(path: Path) -> Path:
    """Where the note of a result lies: in a folder, or beside a file."""
    path = Path(path)
    return path / NOTE if path.is_dir() else path.with_name(f".{path.name}.{NOTE}")


def write_note(path: Path, told: Mapping[str, object]) -> None:
    """Write down what made the result `path`: `digest`, and whatever else is told."""
    write_json(note_of(path), told)


def made_by(path: Path) -> str | None:
    """The digest of a result, or of what it lies in where it has no note of its own; None where there is none."""
    path = Path(path)
    for place in (note_of(path), *(folder / NOTE for folder in path.parents)):
        if place.is_file():
            known = read_json(place).get("digest")
            if not isinstance(known, str | None):
                raise InputError(f"{place}: field 'digest' is {type(known).__name__}, expected str; make {path} anew")
            return known
    return None


def known_by(
    signature: Signature, values: Mapping[str, object], digest_of: Callable[[Path], str | None] = made_by
) -> tuple[dict[str, object], dict[str, list[str]]]:
    """The settings and the inputs that a result is known by, as `digest` takes them.

    Parameters
    ----------
    signature
        Of the verb's function.
    values
        What the function is called with; typed settings, or what their `brief` gives.
    digest_of
        The digest of what a path names or will name, None where it is the user's own. One path is one input, several
        are one in their order, and of `{name: path}` each is one, `parameter.name`.
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


def told(
    verb: str, version: int, settings: Mapping[str, object], inputs: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """What a note tells: the digest, and all that it is one of."""
    known = {"verb": verb, "version": version, "vlret": __version__, "settings": settings, "inputs": inputs}
    return {"digest": digest(verb, version, settings, inputs), **known}


def _paths(name: str, value: object) -> dict[str, Sequence[Path]]:
    if isinstance(value, Mapping):
        return {f"{name}.{part}": [path] for part, path in value.items()}
    return {name: [value] if isinstance(value, (str, Path)) else value}


def _plain(value: object) -> object:
    """A value as JSON has it, of typed settings those that are not the default."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
