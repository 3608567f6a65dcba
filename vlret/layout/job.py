"""One job: what it reads, by the options of its verb, and with which settings."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from vlret.made import digest, version_of, without_defaults


class File(str):
    """A path that a job reads.

    Attributes
    ----------
    rule, wildcards
        The job that makes it; no rule for a file of the user's own.
    inside
        What of it is read, where the path is that of a folder: `path/inside`.
    known
        Whether it is known by what it is, so that its time and place say nothing: one's own weights.
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
        """A path, and what is known of it."""
        self = super().__new__(cls, path)
        self.rule, self.wildcards, self.inside, self.known = rule, wildcards or {}, inside, known
        return self

    def at(self, inside: str) -> "File":
        """What lies in it."""
        return File(self, self.rule, self.wildcards, inside, self.known)

    def read(self, path: str | None = None) -> str:
        """The path that is read, where the folder may be called otherwise."""
        path = str(self) if path is None else path
        return f"{path}/{self.inside}" if self.inside and self.inside != "." else path


Files = File | Sequence[File] | Mapping[str, File]


@dataclass(frozen=True)
class Job:
    """One job of a rule.

    Attributes
    ----------
    verb
        `STAGE VERB`.
    inputs
        Option -> one path, several, or several by name.
    settings
        Option -> value: all that the result depends on, defaults left out; many jobs have the same.
    named
        The same, of this job alone.
    resources
        Option -> value: how the job works, which its result does not depend on.
    watched
        Paths that are read without being an option.
    folders
        Options whose paths lie in one folder, which the command is given in their place: a command line has an end.
    """

    verb: str
    inputs: Mapping[str, Files] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, object] = field(default_factory=dict)
    watched: Sequence[File] = ()
    folders: frozenset[str] = frozenset()

    def files(self) -> dict[str, list[File]]:
        """The inputs as lists of paths, those that are not there left out."""
        listed = {name: files_of(files) for name, files in self.inputs.items()}
        return {name: files for name, files in listed.items() if files}

    def told(self) -> dict[str, list[File]]:
        """The inputs as the note beside a result tells of them: those by name under `OPTION.NAME`."""
        told: dict[str, list[File]] = {}
        for name, files in self.inputs.items():
            if name in self.folders:
                continue
            told |= (
                {f"{name}.{key}": [file] for key, file in files.items()}
                if isinstance(files, Mapping)
                else {name: files_of(files)}
            )
        return told

    def options(self, places: Mapping[str, Sequence[str]] | None = None) -> str:
        """All but outputs and settings as words of a command line, the inputs at `places` if those are given."""
        words = []
        for name, files in self.files().items():
            told = [file.read(path) for file, path in zip(files, (places or {}).get(name, files), strict=True)]
            if name in self.folders:
                told = [str(PurePath(told[0]).parent)]
            if isinstance(self.inputs[name], Mapping):
                told = [f"{key}={path}" for key, path in zip(self.inputs[name], told, strict=True)]
            words += [f"--{name.replace('_', '-')}", *told]
        for name, value in (*self.named.items(), *self.resources.items()):
            values = value if isinstance(value, list) else [value]
            words += [
                f"--{name.replace('_', '-')}",
                *(value if isinstance(value, str) else json.dumps(value) for value in values),
            ]
        return shlex.join(words)

    def known_by(self) -> dict[str, object]:
        """The verb, its version and all settings, as the note beside the result tells them."""
        told = without_defaults(self.verb, {**self.settings, **self.named})
        return {"verb": self.verb, "version": version_of(self.verb), "settings": told}

    def known(self) -> str | None:
        """What names the file of its settings: a digest of the verb and of them; None where there is nothing to say."""
        version, told = version_of(self.verb), without_defaults(self.verb, self.settings)
        return digest(self.verb, version, told, {}) if told or version > 1 else None


def files_of(files: Files | None) -> list[File]:
    """One path or several as a list."""
    if files is None:
        return []
    return [files] if isinstance(files, File) else list(files.values() if isinstance(files, Mapping) else files)
