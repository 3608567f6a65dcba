"""Queries of Slurm by its own commands."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from vlret.files import InputError
from vlret.yamls import read

PROFILE = Path("slurm")


def call(*command: str, seconds: float = 30) -> str:
    """The output of a Slurm command.

    Raises
    ------
    InputError
        If it does not exist, fails, or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except FileNotFoundError as error:
        raise InputError(f"{command[0]}: not found; is this a login node of the cluster?") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{command[0]}: no answer within {seconds:.0f} s; is the cluster's controller up?") from error
    if done.returncode:
        error = " ".join(re.sub(r"^\w+: (error: )?", "", done.stderr, flags=re.MULTILINE).split())
        raise InputError(f"{command[0]}: {error or f'exit code {done.returncode}'}")
    return done.stdout


def read_profile(folder: Path) -> dict:
    """Read a Snakemake profile; raises `InputError` with the file."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run this at the top of the repository")
    profile = read(path)
    if not isinstance(profile.get("default-resources"), dict):
        raise InputError(
            f"{path}: default-resources: missing; it holds slurm_partition, slurm_account, runtime, mem_mb"
        )
    return profile


def jobs_named(names: Iterable[str]) -> dict[str, str]:
    """Job id -> state of this user's unfinished jobs of these names; Snakemake names jobs after its run."""
    wanted = set(names)
    rows = (line.split("|") for line in call("squeue", "--me", "--noheader", "--format=%i|%j|%T").splitlines())
    return {number: state for number, name, state in rows if name in wanted}
