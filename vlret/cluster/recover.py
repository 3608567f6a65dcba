"""`vlret cluster recover`: clean up after the driver, the `snakemake` on the login node, was killed."""

import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from vlret.cluster.slurm import PROFILE, call, jobs_named
from vlret.console import say
from vlret.files import InputError
from vlret.jobs import read_run

LOGS = Path(".snakemake/log")
LOCKS = Path(".snakemake/locks")
WAIT = 300  # seconds for cancelled jobs to end; a training saves its state first
RUN = re.compile(r"SLURM run ID: (\S+)")
COMMAND = re.compile(r"^\s*Command: (?:\S*/)?(snakemake .*)$", re.MULTILINE)


def recover(profile: Path | None = None, force: bool = False) -> None:
    """Cancel the jobs of killed drivers of this folder, wait until they have ended, and unlock the folder.

    With `snakemake --unlock` instead, a new run would resubmit jobs that still run, and both copies would write to the
    same files.

    Parameters
    ----------
    profile
        Folder of the profile, `slurm` by default.
    force
        Also cancel the jobs of a driver that was started on another host, where it cannot be seen.

    Raises
    ------
    InputError
        If a driver still runs here or may run on another host, Slurm does not answer, or jobs do not end.
    """
    start = time.monotonic()
    if alive := drivers(Path.cwd()):
        raise InputError(f"process {alive[0]} runs snakemake in this folder; wait for it, or stop it with Ctrl-C")
    if not force and (elsewhere := unfinished_elsewhere()):
        path, host = elsewhere
        raise InputError(
            f"{path}: this run was started on {host}, where its driver may live: run `vlret cluster recover` there, "
            f"or, if it was killed and {host} cannot be reached, `vlret cluster recover --force` here"
        )
    runs = run_names()
    left = jobs_named(runs) if runs else {}
    if left:
        say(f"{len(left)} jobs of a killed run: {', '.join(f'{job} ({state})' for job, state in left.items())}")
        call("scancel", *left)
        _wait(runs)
        say(f"cancelled; all ended after {time.monotonic() - start:.0f} s")
    else:
        say("no job of a killed run is left")
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        _unlock(profile or PROFILE)
        say("unlocked")
    print(f"Now rerun: {last_command() or f'snakemake --profile {profile or PROFILE} results/table.tex'}")


def logs() -> list[Path]:
    """Snakemake's logs of this folder, newest first."""
    return sorted(LOGS.glob("*.snakemake.log"), reverse=True)


def run_names() -> list[str]:
    """The job names of this folder's runs, newest first."""
    return [name for log in logs() for name in RUN.findall(log.read_text(encoding="utf-8", errors="replace"))]


def unfinished_elsewhere() -> tuple[Path, str] | None:
    """The log and the host of the newest run that submitted jobs, if that is another host and the log has no end."""
    for log in logs():
        text = log.read_text(encoding="utf-8", errors="replace")
        if RUN.search(text):
            run = read_run(log, text)
            return None if run.ended or run.host in ("", platform.node()) else (log, run.host)
    return None


def last_command() -> str | None:
    """The command of the newest run that submitted jobs, if Snakemake logged it."""
    for log in logs():
        text = log.read_text(encoding="utf-8", errors="replace")
        if RUN.search(text) and (command := COMMAND.search(text)):
            return command[1]
    return None


def drivers(folder: Path) -> list[int]:
    """The processes of this host that run Snakemake in `folder` outside Slurm jobs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            inside = (path / "cwd").readlink() == folder.resolve()
            job = b"\0SLURM_JOB_ID=" in b"\0" + (path / "environ").read_bytes()
        except OSError:  # the process has ended, or is another user's
            continue
        snakemake = any(word.rpartition(b"/")[2] == b"snakemake" for word in words[:4])
        if snakemake and inside and not job and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def _wait(runs: list[str]) -> None:
    end = time.monotonic() + WAIT
    while left := jobs_named(runs):
        if time.monotonic() > end:
            raise InputError(
                f"jobs {', '.join(left)} were cancelled but have not ended after {WAIT} s; ask the administrators"
            )
        time.sleep(1)


def _unlock(profile: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--profile", str(profile), "--unlock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{shlex.join(command[2:])} failed: {' '.join(done.stderr.split())[-500:]}")
