"""A job: its inputs, by option of its verb, and its settings."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from vlret.made import digest, version_of, without_defaults


class File(str):
    """An input path of a job.

    Attributes
    ----------
    rule, wildcards
        The job that makes it; no rule for a user's file.
    inside
        The part of a folder that is read, as `path/inside`.
    known
        Whether it is identified by content, so that its time and place do not matter (local weights).
    """

    rule: str | None
    wildcards: Mapping[str, str]
    inside: str
    known: bool

    def __new__(
        cls,
        path: str,
        rule: str | None = None,
        wildcards: Mapping[str, str] | None = None,
        inside: str = "",
        known: bool = False,
    ) -> "File":
        """Create the path; see the class for the attributes."""
        self = super().__new__(cls, path)
        self.rule, self.wildcards, self.inside, self.known = rule, wildcards or {}, inside, known
        return self

    def at(self, inside: str) -> "File":
        """A path inside it."""
        return File(self, self.rule, self.wildcards, inside, self.known)

    def read(self, path: str | None = None) -> str:
        """The path that is read, with the folder at `path` if given."""
        path = str(self) if path is None else path
        return f"{path}/{self.inside}" if self.inside and self.inside != "." else path


Files = File | Sequence[File] | Mapping[str, File]


@dataclass(frozen=True)
class Job:
    """A job of a rule.

    Attributes
    ----------
    verb
        `STAGE VERB`.
    inputs
        Option → one path, several, or several by name.
    settings
        Option → value: what the result depends on, without defaults; shared by many jobs.
    named
        The same, for this job only.
    resources
        Option → value: options that do not affect the result.
    watched
        Inputs that are not options.
    folders
        Options whose paths are passed as their common folder, since the length of a command line is limited.
    """

    verb: str
    inputs: Mapping[str, Files] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, object] = field(default_factory=dict)
    watched: Sequence[File] = ()
    folders: frozenset[str] = frozenset()

    def files(self) -> dict[str, list[File]]:
        """The inputs as lists of paths, without empty ones."""
        listed = {name: files_of(files) for name, files in self.inputs.items()}
        return {name: files for name, files in listed.items() if files}

    def told(self) -> dict[str, list[File]]:
        """The inputs as recorded in the note beside a result: named ones as `OPTION.NAME`."""
        recorded: dict[str, list[File]] = {}
        for name, files in self.inputs.items():
            if name in self.folders:
                continue
            recorded |= (
                {f"{name}.{key}": [file] for key, file in files.items()}
                if isinstance(files, Mapping)
                else {name: files_of(files)}
            )
        return recorded

    def options(self, places: Mapping[str, Sequence[str]] | None = None) -> str:
        """The command line's options except outputs and settings, with inputs at `places` if given."""
        words = []
        for name, files in self.files().items():
            paths = [file.read(path) for file, path in zip(files, (places or {}).get(name, files), strict=True)]
            if name in self.folders:
                paths = [str(PurePath(paths[0]).parent)]
            if isinstance(self.inputs[name], Mapping):
                paths = [f"{key}={path}" for key, path in zip(self.inputs[name], paths, strict=True)]
            words += [f"--{name.replace('_', '-')}", *paths]
        for name, value in (*self.named.items(), *self.resources.items()):
            if isinstance(value, bool):
                words.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
                continue
            values = value if isinstance(value, list) else [value]
            words += [
                f"--{name.replace('_', '-')}",
                *(value if isinstance(value, str) else json.dumps(value) for value in values),
            ]
        return shlex.join(words)

    def known_by(self) -> dict[str, object]:
        """The verb, its version and all settings, as recorded in the note beside the result."""
        settings = without_defaults(self.verb, {**self.settings, **self.named})
        return {"verb": self.verb, "version": version_of(self.verb), "settings": settings}

    def known(self) -> str | None:
        """The digest of verb and settings that names the settings file; None if there is nothing to record."""
        version, settings = version_of(self.verb), without_defaults(self.verb, self.settings)
        return digest(self.verb, version, settings, {}) if settings or version > 1 else None


def files_of(files: Files | None) -> list[File]:
    """One path or several as a list."""
    if files is None:
        return []
    return [files] if isinstance(files, File) else list(files.values() if isinstance(files, Mapping) else files)
