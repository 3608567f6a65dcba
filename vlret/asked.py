"""The config that a view is asked about, named as on Snakemake's command line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from vlret.config import DEFAULT, load_config
from vlret.files import InputError
from vlret.jobs import Run
from vlret.layout import Layout
from vlret.yamls import read

PROFILE = "SNAKEMAKE_PROFILE"


@dataclass(frozen=True)
class Asked:
    """The options that `vlret grid`, `status`, `plan`, `table` and `model describe` share with Snakemake.

    Attributes
    ----------
    configfile
        Config files, later over earlier; the profile's where none is given, or else the sample's.
    config
        `KEY=VALUE`, over all files.
    profile
        Folders or names of profiles; by default those of `$SNAKEMAKE_PROFILE`.
    """

    configfile: Sequence[Path] = ()
    config: Sequence[str] = ()
    profile: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Whether any of it was given."""
        return bool(self.configfile or self.config or self._profiles())

    def files(self) -> list[Path]:
        """The config files that Snakemake would read."""
        return [*self.configfile] or [Path(file) for file in self.setting("configfile")] or [Path(DEFAULT)]

    def layout(self) -> Layout:
        """The layout of the config in this folder; `InputError` for a mistake in it."""
        return Layout(load_config(self.files(), given=self._given()), Path())

    def words(self) -> list[str]:
        """The options that tell Snakemake the same; the target follows `--`."""
        words = ["--configfile", *map(str, self.files())]
        words += ["--config", *self.config] if self.config else []
        return words + [word for name in self._profiles() for word in ("--profile", name)]

    def setting(self, key: str) -> list:
        """What the last profile with a key says of it, as a list; an empty one where none has it."""
        found = [profile[key] for profile in map(_read, self._profiles()) if key in profile]
        value = found[-1] if found else []
        return value if isinstance(value, list) else [value]

    def _given(self) -> Mapping:
        entries = self.config or self.setting("config")
        if not entries:
            return {}
        from snakemake.cli import parse_config  # a second of imports, for those who need it

        try:
            return parse_config(entries)
        except ValueError as error:
            raise InputError(f"--config: {error}") from error

    def _profiles(self) -> list[str]:
        return [*self.profile] or [name for name in os.environ.get(PROFILE, "").split(",") if name not in ("", "none")]


def of_run(run: Run) -> Asked:
    """What a run was asked for, if there was one."""
    words = run.command[run.command.index("--config") + 1 :] if "--config" in run.command else []
    given = takewhile(lambda word: "=" in word and word[0] != "-", words)
    return Asked([Path(file) for file in run.configfiles], [*given])


def _read(profile: str) -> Mapping:
    """What stands in a profile, which Snakemake finds."""
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(profile)
    if found is None:
        raise InputError(f"--profile {profile}: no such folder with a config.yaml in it")
    return read(found[1])
