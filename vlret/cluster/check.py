"""`vlret cluster check`: whether a profile fits the cluster, one line per check."""

import getpass
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vlret.asked import Asked
from vlret.cluster.slurm import PROFILE, call, read_profile
from vlret.experiment import trained, training_of
from vlret.files import InputError
from vlret.layout import TRAININGS

WAIT = 60  # seconds to wait for a node
NUMBERS = ("mem_mb", "runtime", "nodes", "tasks", "cpus_per_task")
OPTIONS = {  # of sbatch
    "slurm_partition": "partition",
    "slurm_account": "account",
    "gres": "gres",
    "constraint": "constraint",
    "nodes": "nodes",
    "tasks": "ntasks",
    "cpus_per_task": "cpus-per-task",
    "mem_mb": "mem",
    "runtime": "time",
}
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
    values = read_profile(folder)
    config, added = trainings(folder)
    requests = Requests(folder, values, added)
    checks: list[tuple[str, Callable[[], str]]] = [("commands", commands), ("status", requests.status)]
    checks += [("partitions", requests.partitions), ("account", requests.account), ("config", lambda: config)]
    checks += [(f"rule {rule}", lambda rule=rule: requests.accepted(rule)) for rule in requests.rules]
    # One job per partition, with a GPU if a rule requests one.
    every = sorted(requests.rules.values(), key=lambda wants: "gres" in wants)
    probes = {name: {**wants, "slurm_partition": name} for wants in every for name in partitions_of(wants)}
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
    """The resource requests of the rules in `folder`/config.yaml, and those that trainings of the config add."""

    folder: Path
    profile: dict
    trainings: Sequence[Mapping]

    def __post_init__(self):
        default = self.profile["default-resources"]
        own = self.profile.get("set-resources", {})
        self.rules: dict[str, dict] = {"default": default} | {
            rule: {**{name: value for name, value in default.items() if not _replaced(name, wants)}, **wants}
            for rule, wants in own.items()
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
        named = [(rule, name) for rule, wants in self.rules.items() for name in partitions_of(wants)]
        for rule, name in named:
            if states.get(name) != "up":
                why = f"is {states[name]}" if name in states else "does not exist"
                raise InputError(f"{name} {why}; there are {', '.join(states)}: edit slurm_partition of {rule}")
        return ", ".join(dict.fromkeys(name for _, name in named))

    def account(self) -> str:
        """The accounts belong to this user, if the cluster has accounts."""
        query = ("sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}")
        own = {line.strip().lower() for line in call(*query, "format=account").splitlines() if line.strip()}
        if not own:
            return "the cluster has none"
        named = {str(wants["slurm_account"]): rule for rule, wants in self.rules.items() if wants.get("slurm_account")}
        for name, rule in named.items():
            if name.lower() not in own:
                raise InputError(
                    f"{name!r} is not yours; yours are {', '.join(sorted(own))}: edit slurm_account of {rule}"
                )
        return ", ".join(named) or "none is named, so that Slurm takes your default"

    def accepted(self, rule: str) -> str:
        """A job with the largest request of this rule would be queued; each request of the config's trainings."""
        attempts, told = self.profile.get("retries", 0) + 1, []
        for added in (self.trainings if rule in TRAININGS else ()) or ({},):
            try:
                options = submission({**added, **self.rules[rule]}, attempts)
            except InputError as error:
                raise InputError(f"{error}: edit {rule}") from error
            try:
                call("sbatch", "--test-only", *options, "--wrap=true")
            except InputError as error:
                where = f"{rule}, `retries`, or gpus and nodes under `training`" if added else f"{rule}, or `retries`"
                raise InputError(f"{' '.join(options)}: {error}: edit {where}") from error
            told.append(" ".join(options))
        return f"{'; '.join(told)} would be queued"


def trainings(profile: Path) -> tuple[str, list[dict]]:
    """What the trainings of the profile's config ask for beside the profile: GPUs, nodes and cores, each once."""
    asked = Asked(profile=[str(profile)])
    names = ", ".join(map(str, asked.files()))
    if absent := [str(file) for file in asked.files() if not file.is_file()]:
        return f"{', '.join(absent)}: not in this folder, so GPUs and nodes of trainings are not checked", []
    config = asked.layout().config
    runs = [run for experiment in trained(config) if (run := training_of(config, experiment))]
    shapes = sorted({(run.nodes, run.gpus) for run in runs})
    told = ", ".join(f"{nodes} x {gpus}" for nodes, gpus in shapes)
    cores = config.compute.threads
    added = [
        {"gres": f"gpu:{gpus}", "nodes": nodes, "tasks": nodes, "cpus_per_task": cores * gpus} for nodes, gpus in shapes
    ]
    return f"{names}: trainings on nodes x GPUs: {told or 'none'}", added


def partitions_of(wants: Mapping) -> list[str]:
    """The partitions of a request: Slurm takes a list, and uses the one that starts first."""
    return [name.strip() for name in str(wants["slurm_partition"]).split(",")]


def _replaced(name: str, wants: Mapping) -> bool:
    """Whether a default is given in another unit: `mem` for `mem_mb`."""
    return name.startswith("mem") and any(other.startswith("mem") for other in wants)


def submission(wants: Mapping, attempt: int) -> list[str]:
    """Translate resources into sbatch options, with formulas, times and sizes as Snakemake reads them."""
    extra = shlex.split(str(wants.get("slurm_extra", "")).strip("'\""))
    values = dict(_evaluated(name, value, attempt) for name, value in wants.items() if name != "slurm_extra")
    return [f"--{option}={values[name]}" for name, option in OPTIONS.items() if values.get(name)] + extra


def _evaluated(name: str, value: object, attempt: int) -> tuple[str, object]:
    """A resource in an attempt, by Snakemake's own name for it; memory in MB, times in minutes."""
    from snakemake.exceptions import ResourceConversionError, WorkflowError
    from snakemake.resources import Resources

    known = {"input": [], "attempt": attempt, "threads": 1, "rulename": "", "async_run": None}
    try:
        (resource,) = Resources.parse([f"{name}={value}"], allow_expressions=True).values()
        found = resource.evaluate(None, **known)
    except (WorkflowError, ResourceConversionError):
        found = None
    if found is None or (found.name in NUMBERS and not isinstance(found.value, (int, float))):
        raise InputError(f"{name}: {value!r} is no number, time or size, and no formula of attempt")
    return found.name, found.value


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
