"""`vlret cluster check`: whether a profile fits the cluster, one line per check."""

import getpass
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vlret.cluster.slurm import PROFILE, call, read_profile
from vlret.files import InputError

WAIT = 60  # seconds to wait for a node
SHARED = 10  # seconds until a file written on a node must be visible here


def check(profile: Path | None = None) -> None:
    """Print a line for each requirement of a run: `ok` and what was found, or `wrong` and what to edit.

    One short job per partition is run; the other checks only query the controller.

    Parameters
    ----------
    profile
        Folder of the profile, `slurm` by default.

    Raises
    ------
    InputError
        If anything is wrong.
    """
    folder = profile or PROFILE
    requests = Requests(folder, read_profile(folder))
    checks: list[tuple[str, Callable[[], str]]] = [("commands", commands), ("status", requests.status)]
    checks += [("partitions", requests.partitions), ("account", requests.account)]
    checks += [(f"rule {rule}", lambda rule=rule: requests.accepted(rule)) for rule in requests.rules]
    # One job per partition, with a GPU if a rule requests one.
    probes = {wants["slurm_partition"]: wants for wants in sorted(requests.rules.values(), key=lambda w: "gres" in w)}
    checks += [(f"node of {name}", lambda wants=wants: probe(wants)) for name, wants in probes.items()]
    with ThreadPoolExecutor(len(checks)) as pool:
        found = [(name, pool.submit(_outcome, test)) for name, test in checks]
        wrong = 0
        for name, result in found:
            fine, text = result.result()
            wrong += not fine
            print(f"{'ok' if fine else 'wrong':6}{name:24}{text}", flush=True)
    if wrong:
        raise InputError(f"{wrong} of {len(checks)} checks failed; {folder}/config.yaml does not fit this cluster yet")


def _outcome(test: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, test()
    except InputError as error:
        return False, str(error)


def commands() -> str:
    """Slurm's commands exist; returns the version."""
    for command in ("srun", "sbatch", "squeue", "scancel", "scontrol"):
        version = call(command, "--version").strip()
    return version


@dataclass
class Requests:
    """The resource requests of the rules in `folder`/config.yaml."""

    folder: Path
    profile: dict

    def __post_init__(self):
        default = self.profile["default-resources"]
        own = self.profile.get("set-resources", {})
        self.rules: dict[str, dict] = {
            "default": default,
            **{rule: {**default, **wants} for rule, wants in own.items()},
        }
        for rule, wants in self.rules.items():
            if not wants.get("slurm_partition"):
                raise InputError(f"{self.folder}/config.yaml: {rule}: slurm_partition: missing")

    def status(self) -> str:
        """The status command of Snakemake answers, and ended jobs are kept long enough."""
        start = time.monotonic()
        call("squeue", "--states=all", "--noheader", "--name=none")
        took = time.monotonic() - start
        kept = re.search(r"MinJobAge\s*=\s*(\d+)", call("scontrol", "show", "config"))
        needed = 3 * self.profile.get("slurm-init-seconds-before-status-checks", 40)
        if kept and int(kept[1]) < needed:
            key = "slurm-init-seconds-before-status-checks"
            raise InputError(f"ended jobs are forgotten after {kept[1]} s: set {key} to {int(kept[1]) // 3} or less")
        return f"squeue answers in {took:.2f} s, ended jobs stay {kept[1] if kept else '?'} s"

    def partitions(self) -> str:
        """Each partition exists and is up."""
        rows = [line.split("|") for line in call("sinfo", "--noheader", "--format=%R|%a").splitlines()]
        states = dict(rows)
        for rule, wants in self.rules.items():
            name = wants["slurm_partition"]
            if states.get(name) != "up":
                why = f"is {states[name]}" if name in states else "does not exist"
                raise InputError(f"{name} {why}; there are {', '.join(states)}: edit slurm_partition of {rule}")
        return ", ".join(dict.fromkeys(wants["slurm_partition"] for wants in self.rules.values()))

    def account(self) -> str:
        """The accounts belong to this user, if the cluster has accounts."""
        query = ("sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}")
        own = {line.strip().lower() for line in call(*query, "format=account").splitlines() if line.strip()}
        if not own:
            return "the cluster has none"
        for rule, wants in self.rules.items():
            name = str(wants.get("slurm_account", ""))
            if name.lower() not in own:
                raise InputError(
                    f"{name!r} is not yours; yours are {', '.join(sorted(own))}: edit slurm_account of {rule}"
                )
        return ", ".join(dict.fromkeys(str(wants["slurm_account"]) for wants in self.rules.values()))

    def accepted(self, rule: str) -> str:
        """A job with the largest request of this rule would be queued."""
        attempts = self.profile.get("retries", 0) + 1
        options = submission(self.rules[rule], attempts)
        try:
            call("sbatch", "--test-only", *options, "--wrap=true")
        except InputError as error:
            raise InputError(f"{' '.join(options)}: {error}: edit {rule}, or `retries`") from error
        return f"{' '.join(options)} would be queued"


def submission(wants: Mapping, attempt: int) -> list[str]:
    """Translate resources into sbatch options; a number is `n` or `n * attempt`, as in Snakemake."""
    names = {"slurm_partition": "partition", "slurm_account": "account", "gres": "gres", "constraint": "constraint"}
    options = [f"--{option}={wants[name]}" for name, option in names.items() if wants.get(name)]
    for name, option in (("mem_mb", "mem"), ("runtime", "time")):
        number = re.fullmatch(r"(\d+)(\s*\*\s*attempt)?", str(wants.get(name, "")))
        if number:
            options.append(f"--{option}={int(number[1]) * (attempt if number[2] else 1)}")
    return options + shlex.split(str(wants.get("slurm_extra", "")).strip("'\""))


def probe(wants: Mapping) -> str:
    """Run a job on a node: it imports the environment, gets the requested GPU, and writes files visible here."""
    options = submission({**wants, "mem_mb": 1000, "runtime": 5, "slurm_extra": ""}, 1)
    with tempfile.TemporaryDirectory(dir=".", prefix=".vlret-cluster-") as here:
        file = Path(here).resolve() / "written"
        shell = (
            f"set -e; cd {shlex.quote(str(file.parent))} || exit 0;"
            f" {shlex.quote(sys.executable)} -c 'import vlret, snakemake_executor_plugin_slurm_jobstep';"
            " vlret --version > aside; mv aside written"
        )
        command = ["srun", "--quiet", "--ntasks=1", f"--immediate={WAIT}", f"--chdir={Path.cwd()}", *options]
        try:
            output = call(
                *command, "bash", "-c", f'echo "$SLURMD_NODENAME|$CUDA_VISIBLE_DEVICES"; {shell}', seconds=3 * WAIT
            )
        except InputError as error:
            if "Unable to allocate resources" in str(error) and "immediate" in str(error).lower():
                raise InputError(f"none became free within {WAIT} s: {' '.join(options)}") from error
            raise
        node, gpus = output.splitlines()[0].split("|")
        end = time.monotonic() + SHARED
        while not file.exists():
            if time.monotonic() > end:
                raise InputError(
                    f"{node}: files it writes to {Path.cwd()} are not visible here; use a shared file system"
                )
            list(Path(here).iterdir())  # makes a network file system refresh its cache
            time.sleep(0.2)
    if "gres" in wants and not gpus:
        raise InputError(f"{node}: --gres={wants['gres']} sets no CUDA_VISIBLE_DEVICES; edit gres")
    return f"{node} imports vlret, shares {Path.cwd()}" + (f", CUDA_VISIBLE_DEVICES={gpus}" if "gres" in wants else "")
