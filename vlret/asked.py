"""The config for a view, given by the same options as for Snakemake."""

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
    """The options of `vlret grid`, `status`, `plan`, `table` and `model describe` shared with Snakemake.

    Attributes
    ----------
    configfile
        Config files, later ones override; by default the profile's, or the sample's.
    config
        `KEY=VALUE`, overriding all files.
    profile
        Folders or names of profiles; by default those in `$SNAKEMAKE_PROFILE`.
    """

    configfile: Sequence[Path] = ()
    config: Sequence[str] = ()
    profile: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Whether any option was given."""
        return bool(self.configfile or self.config or self._profiles())

    def files(self) -> list[Path]:
        """The config files that Snakemake would read."""
        return [*self.configfile] or [Path(file) for file in self.setting("configfile")] or [Path(DEFAULT)]

    def layout(self) -> Layout:
        """The layout of the config in this folder; `InputError` if the config is invalid."""
        return Layout(load_config(self.files(), given=self._given()), Path())

    def words(self) -> list[str]:
        """The same options for Snakemake's command line; the target follows `--`."""
        words = ["--configfile", *map(str, self.files())]
        words += ["--config", *self.config] if self.config else []
        return words + [word for name in self._profiles() for word in ("--profile", name)]

    def setting(self, key: str) -> list:
        """The value of a key in the last profile that has it, as a list; empty if none has."""
        found = [profile[key] for profile in map(_read, self._profiles()) if key in profile]
        value = found[-1] if found else []
        return value if isinstance(value, list) else [value]

    def _given(self) -> Mapping:
        entries = self.config or self.setting("config")
        if not entries:
            return {}
        from snakemake.cli import parse_config  # takes a second, so only imported if needed

        try:
            return parse_config(entries)
        except ValueError as error:
            raise InputError(f"--config: {error}") from error

    def _profiles(self) -> list[str]:
        return [*self.profile] or [name for name in os.environ.get(PROFILE, "").split(",") if name not in ("", "none")]


def of_run(run: Run) -> Asked:
    """The options that a run was started with."""
    words = run.command[run.command.index("--config") + 1 :] if "--config" in run.command else []
    given = takewhile(lambda word: "=" in word and word[0] != "-", words)
    return Asked([Path(file) for file in run.configfiles], [*given])


def _read(profile: str) -> Mapping:
    """The contents of a profile, found as by Snakemake."""
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(profile)
    if found is None:
        raise InputError(f"--profile {profile}: no such folder with a config.yaml")
    return read(found[1])
