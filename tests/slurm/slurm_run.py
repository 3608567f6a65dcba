"""A copy of the repository in which Snakemake runs on the cluster, with a trace of what ran where."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from slurm_cluster import until
from test_pipeline import copy_repository, read_config, remove, write_config

TABLE = "results/table.tex"
ADAPTER = "vlminilm_adapter_none_avg"
CHECKPOINTS = "results/sample/checkpoints"

# Shadows `vlret` on the PATH: traces each start and its place, and fails on a test's request.
SHIM = """#!/bin/bash
echo "$(date +%s.%N)|$$|${{SLURM_JOB_ID:-}}|${{SLURMD_NODENAME:-}}|${{CUDA_VISIBLE_DEVICES:-}}|$*" >> {folder}/trace
if [ -s "{folder}/fail-$2" ]; then
    sed --in-place 1d "{folder}/fail-$2"
    echo "a requested failure" >&2
    exit 1
fi
exec {vlret} "$@"
"""

# Snakemake polls its jobs after 20 s, then 30, 40, …: tests would mostly wait. Here it polls every 5 s.
OFTEN = """import sys

if "--profile" in sys.orig_argv:
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 5, lambda self, seconds: None)
"""


def tiny(folder: Path) -> None:
    """Copy this repository to `folder`, with a config of BM25 and one trained model that `--profile slurm` runs too."""
    copy_repository(folder)
    config = read_config(folder)
    bm25 = {"model": "bm25", "tuning": "zs", "prefix": "none", "pooling": "none"}
    config["grid"] = {"product": [bm25], "include": [ADAPTER]}
    for key in ("fusions", "ablations"):
        del config[key]
    config["training"]["experiments"] = {}
    config["training"]["defaults"] |= {"steps": 60, "save_steps": 2, "validate_every": 0, "chunk": 4}
    config["datasets"]["sample"]["source"]["sample"]["articles"] = 220
    config["features"]["shards"] = 1
    config["evaluation"]["permutations"] = 200
    write_config(folder, config)
    shutil.copy(folder / "config" / "config.yaml", folder / "config" / "viquae.yaml")


def edit_profile(folder: Path, change: dict) -> None:
    """Change the resources of rules in the repository's profile."""
    path = folder / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text())
    for rule, resources in change.items():
        profile["set-resources"][rule] = {**profile["set-resources"].get(rule, {}), **resources}
    path.write_text(yaml.safe_dump(profile, sort_keys=False))


def join_the_rest(folder: Path) -> None:
    """Group everything after a training into one allocation, which saves a minute per test."""
    partition = {"slurm_partition": "gpu", "mem_mb": "6000 * attempt"}
    edit_profile(folder, dict.fromkeys(("embed", "embed_questions", "search", "metrics"), partition))
    path = folder / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["groups"] = [f"{rule}=rest" for rule in ("embed", "embed_questions", "search", "metrics")]
    path.write_text(yaml.safe_dump(profile, sort_keys=False))


@dataclass(frozen=True)
class Start:
    """One start of the `vlret` command: when, and in which job on which node with which GPUs."""

    seconds: float
    pid: int
    job: str
    node: str
    gpus: str
    verb: str
    arguments: str


class Repository:
    """A folder with the tiny config, and the driver that runs there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.shims = folder.parent / f"{folder.name}-shims"
        self.shims.mkdir(exist_ok=True)
        shim = self.shims / "vlret"
        shim.write_text(SHIM.format(folder=self.shims, vlret=Path(sys.executable).with_name("vlret")))
        shim.chmod(0o755)
        (self.shims / "sitecustomize.py").write_text(OFTEN)
        self.output = self.shims / "output"
        self.driver: subprocess.Popen | None = None

    def environment(self) -> dict[str, str]:
        path = [str(self.shims), str(Path(sys.executable).parent), os.environ["PATH"]]
        return {**os.environ, "PATH": ":".join(path), "PYTHONPATH": str(self.shims), "OMP_NUM_THREADS": "1"}

    def type(self, command: str, fails: bool = False) -> str:
        """Run a command and return its output."""
        done = subprocess.run(
            command.split(), cwd=self.folder, env=self.environment(), text=True, capture_output=True, check=False
        )
        assert (done.returncode != 0) == fails, (done.stdout + done.stderr)[-5000:]
        return done.stdout + done.stderr

    def begin(self, command: str = f"snakemake --profile slurm {TABLE}") -> None:
        """Start the driver; its output is appended to the file `output`."""
        with open(self.output, "a") as output:
            self.driver = subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
            )

    def end(self, fails: bool = False, seconds: float = 900) -> str:
        """Wait for the driver and return its output."""
        end = time.monotonic() + seconds
        while (code := self.driver.poll()) is None:
            assert time.monotonic() < end, self.output.read_text()[-5000:]
            self.keep_curves()
            time.sleep(0.2)
        text = self.output.read_text()
        assert (code != 0) == fails, text[-5000:]
        return text

    def close(self) -> None:
        """Stop everything, also after a failed test."""
        if self.driver and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        if left := self.queued():
            subprocess.run(["scancel", *left], check=True)

    def fail(self, verb: str, times: int) -> None:
        """Make the next `times` starts of `vlret STAGE verb` fail."""
        (self.shims / f"fail-{verb}").write_text("once\n" * times)

    def trace(self, verb: str = "") -> list[Start]:
        """All starts of `vlret`, or of one verb, in order of time."""
        path = self.shims / "trace"
        starts = []
        for line in path.read_text().splitlines() if path.exists() else ():
            seconds, pid, job, node, gpus, arguments = line.split("|", 5)
            name = " ".join(arguments.split()[:2])
            starts.append(Start(float(seconds), int(pid), job, node, gpus, name, arguments))
        return [start for start in starts if start.verb.endswith(verb)]

    def started(self, verb: str, times: int = 1, seconds: float = 300) -> Start:
        """Wait for the n-th start of a verb."""
        return until(lambda: self.trace(verb)[times - 1 : times], seconds, f"start {times} of {verb}")[0]

    def training(self, times: int = 1) -> Start:
        """Wait until the n-th start of the training has saved a state; return that start."""
        start = self.started("train", times)
        folder = self.folder / CHECKPOINTS / f"{ADAPTER}.training"
        until(lambda: any(p.stat().st_mtime > start.seconds for p in folder.glob("step-*.pt")), 120, "a saved state")
        assert not (self.folder / CHECKPOINTS / ADAPTER).exists(), "the training was over before the fault"
        return start

    def runs(self) -> list[str]:
        """The names of this folder's runs on the cluster."""
        logs = (self.folder / ".snakemake" / "log").glob("*.log")
        return [name for log in logs for name in re.findall(r"SLURM run ID: (\S+)", log.read_text())]

    def jobs(self, rule: str = "") -> list[dict]:
        """The accounting records of this folder's jobs in order of submission, requeued ones twice."""
        fields = ["JobIDRaw", "Partition", "State", "Comment", "Start", "End", "ReqMem", "AllocTRES", "NodeList"]
        command = ["sacct", "-X", "-D", "-n", "-P", f"--name={','.join(self.runs())}", f"--format={','.join(fields)}"]
        rows = subprocess.run([*command, "-S", "now-1day"], capture_output=True, text=True, check=True).stdout
        jobs = [dict(zip(fields, row.split("|"), strict=True)) for row in rows.splitlines()]
        return [job for job in jobs if job["Comment"].startswith(f"rule_{rule}")]

    def queued(self) -> list[str]:
        """The ids of this folder's unfinished jobs."""
        if not self.runs():
            return []
        command = ["squeue", "--noheader", "--format=%i", f"--name={','.join(self.runs())}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def now(self) -> float:
        """The time on the trace's clock."""
        return time.time()

    def keep_curves(self) -> None:
        """Hard-link TensorBoard's files, which are deleted after the training, to keep them."""
        for path in (self.folder / CHECKPOINTS).glob("*.training/tensorboard/*"):
            kept = self.shims / "tensorboard" / path.name
            kept.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                kept.hardlink_to(path)

    def curve(self) -> dict[int, float]:
        """The training's loss by step, over all its attempts."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        curve = EventAccumulator(str(self.shims / "tensorboard"))
        curve.Reload()
        return {event.step: event.value for event in curve.Scalars("loss/viquae")}


def without_training(finished: Repository, folder: Path) -> Repository:
    """Copy the finished repository without its trained model and everything that depends on it."""
    shutil.copytree(finished.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("downloads"))
    downloads = "results/downloads"
    subprocess.run(["cp", "--archive", "--link", finished.folder / downloads, folder / downloads], check=True)
    for stage in ("embeddings/passages", "embeddings/questions", "runs", "metrics"):
        for path in (folder / "results" / "sample" / stage).glob(f"{ADAPTER}*"):
            remove(path)
    shutil.rmtree(folder / CHECKPOINTS)
    for path in (folder / "results").glob("table.*"):
        path.unlink()
    join_the_rest(folder)
    return Repository(folder)


def warned(pid: int, number: signal.Signals) -> bool:
    """Whether a signal is pending for a paused process, or ended it: some Slurm versions resume it first."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    masks = re.findall(r"(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", status)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def overlaps(jobs: list[dict]) -> bool:
    """Whether any two jobs ran at once."""
    spans = sorted((job["Start"], job["End"]) for job in jobs)
    return any(second[0] < first[1] for first, second in itertools.pairwise(spans))
