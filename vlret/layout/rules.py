"""What the rules of the Snakefile ask: the one place where `vlret.layout` meets Snakemake."""

import atexit
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient, directory, local
from snakemake.settings.types import DeploymentMethod

from vlret.config import DEFAULT, MODELS, check, load_config, read
from vlret.data.own import absence
from vlret.experiment import Experiment, tuning_and_run
from vlret.files import InputError, read_json, write_json
from vlret.jobs import FAILED, last_line, read_run
from vlret.layout.job import File, Job
from vlret.layout.jobs import Layout
from vlret.layout.machine import without_gpu
from vlret.layout.paths import SETTINGS
from vlret.layout.settled import Settled
from vlret.made import note_of
from vlret.settings import EXPERIMENT, PART, SPLITS, Config, TrainingRun

SHOWN, ERROR = 10, "vlret: error: "  # failed jobs whose messages are shown, each behind this
ASIDE = ".snakemake"  # where a dry-run writes what it may not write to results/


class Rules:
    """Inputs, outputs, options and places of every rule of one config.

    Parameters
    ----------
    workflow, config
        Snakemake's own.
    root
        The folder with `config/` in it.
    """

    def __init__(self, workflow, config: Mapping, root: Path):
        self.last_words: list[str] = []
        atexit.register(self._say_last)
        self.workflow, self.moved = workflow, workflow.modifier.path_modifier
        try:
            self.layout = Layout(self._read(config, root), root, self._place)
            self.layout.check_batches()
        except InputError as error:
            raise self._mistake(error) from None
        self.config = self.layout.config

    def _read(self, config: Mapping, root: Path) -> Config:
        """The config files anew, since Snakemake's own merging takes nothing away; a module's config as it is given."""
        if self.workflow.modifier.skip_configfile:
            return check([(MODELS, read(root / MODELS)), ("the module's config", config)])
        here = Path.cwd()
        files = [Path(file) for file in self.workflow.configfiles or [root / DEFAULT]]
        shown = [file.relative_to(here) if file.is_relative_to(here) else file for file in files]
        return load_config(shown, root, self.workflow.config_settings.config)

    def start(self) -> None:
        """Refuse before a run's first job what would stop it hours later; `WorkflowError` says why."""
        workflow, conda = self.workflow, DeploymentMethod.CONDA
        jobs = [] if workflow.touch else list(workflow.dag.needrun_jobs())
        if absent := [job.wildcards.file for job in jobs if job.rule.name == "by_hand"]:
            told = "; ".join(absence(Path(file)) for file in sorted(absent))
            raise self._mistake(InputError(f"{told}; docs/experiments.md says where published ones come from"))
        # Jobs that a cluster runs are elsewhere, and those in environments of their own have another torch.
        if workflow.local_exec and conda not in workflow.deployment_settings.deployment_method:
            self._check_precision(job for job in jobs if job.rule.name in ("train", "pretrain"))

    def _check_precision(self, jobs: Iterable) -> None:
        """Refuse trainings in fp16 where there is no GPU."""
        for job in jobs:
            run = self._trained(job.wildcards)
            if run and run.precision == "fp16" and (reason := without_gpu()):
                told = (
                    f"training.precision: fp16 needs a GPU, and {reason}; use bf16 or fp32, or a machine that has one"
                )
                raise self._mistake(InputError(f"{told} (of {job.wildcards.experiment})"))

    # ---- What a rule says --------------------------------------------------------------------------------------------

    def made(self, rule: str) -> dict[str, str]:
        """The outputs of a rule by name; those whose names have no suffix are folders."""
        paths = self.layout.outputs(rule)
        return {name: path if _is_file(path) else directory(path) for name, path in paths.items()}

    def log(self, rule: str) -> str:
        """The logs of a rule's jobs."""
        return self.layout.beside(rule, "logs", ".log")

    def benchmark(self, rule: str) -> str:
        """What a rule's jobs took."""
        return self.layout.beside(rule, "benchmarks", ".tsv")

    def reads(self, rule: str) -> Callable:
        """The inputs of a job by name, with the file of its settings."""

        def inputs(wildcards):
            job = self._job(rule, wildcards)
            files = {name: [_flagged(file) for file in files] for name, files in job.files().items()}
            if self._spares and self._settled.spared(wildcards.get("experiment")):
                # Its rows are done: what is made of the same again for another experiment may be newer than they are.
                there = {name: [ancient(path) for path in paths if self._there(path)] for name, paths in files.items()}
                files = {name: paths for name, paths in there.items() if paths}
            if job.watched:
                files["watched"] = [_flagged(file) for file in job.watched]
            if job.known():
                files["settings"] = self._settings(rule, job, wildcards)
            return files

        return inputs

    def known(self, rule: str) -> Callable:
        """What of a job's settings Snakemake compares with those of the last time."""
        return lambda wildcards: self._job(rule, wildcards).known() or ""

    def options(self, rule: str) -> Callable:
        """The words of a job's command line, but for its outputs."""

        def words(wildcards, input):
            job = self._job(rule, wildcards)
            places = {name: _listed(input.get(name)) for name in job.files()}
            if any(len(places[name]) != len(files) for name, files in job.files().items()):
                return "# spared: its results are done, and what it would read is gone"
            return " ".join([*([shlex.quote(f"@{input.settings}")] if job.known() else []), job.options(places)])

        return words

    # ---- Which datasets and experiments it is for --------------------------------------------------------------------

    def datasets(self, *keys: str) -> str:
        """A regular expression for the datasets whose source has one of some keys; it matches nothing if none has."""
        found = [name for name, entry in self.config.datasets.items() if {*keys} & entry.source.given().keys()]
        return _any(found)

    def cut(self) -> str:
        """A regular expression for the datasets whose articles are cut into passages."""
        return _any([name for name, entry in self.config.datasets.items() if entry.passages])

    def experiments(self, *kinds: str) -> str:
        """A regular expression for the experiments of some kinds of models."""
        models = [name for name, model in self.config.models.items() if model.kind in kinds]
        return f"({_any(models)})_{PART}_{PART}_{PART}"

    @property
    def constraints(self) -> dict[str, str]:
        """Of all wildcards."""
        ablations = self.config.ablations
        return {
            "dataset": _any(self.config.datasets),
            "experiment": EXPERIMENT,
            "split": _any(SPLITS),
            "collection": "questions|articles",
            "backbone": _any(self.config.backbones),
            "fusion": _any(self.config.fusions),
            "run": _any(self.config.runs),
            "ablation": _any(ablations.kinds if ablations else []),
            "row": r"[a-z0-9+_-]+(\.[a-z-]+)?",
            "depth": r"\d+",
            "source": _any(self.layout.fetched),
            "package": _any(self.layout.downloads),
            "miner": rf"{PART}(\.{EXPERIMENT})?",
            "owner": "[^/]+",
            "name": "[^/]+",
            "revision": "[^/]+",
        }

    # ---- Where a training runs -------------------------------------------------------------------------------------

    def cores(self, wildcards) -> int:
        """Cores of a training's node: those of a process for each GPU."""
        return self.config.compute.threads * self._run(wildcards)[0]

    def places(self) -> dict[str, Callable]:
        """What a training asks of a cluster. Slurm's plugin leaves the start on several nodes to the command."""
        return {
            "gres": lambda wildcards: f"gpu:{self._run(wildcards)[0]}",
            "processes": lambda wildcards: self._run(wildcards)[0],
            "nodes": lambda wildcards: self._run(wildcards)[1],
            "tasks": lambda wildcards: self._several(wildcards, self._run(wildcards)[1]),
            "tasks_per_gpu": lambda wildcards: self._several(wildcards, 0),
            "mpi": lambda wildcards: self._several(wildcards, "srun"),
        }

    def _trained(self, wildcards) -> TrainingRun | None:
        return tuning_and_run(self.config, Experiment.parse(wildcards.experiment))[1]

    def _run(self, wildcards) -> tuple[int, int]:
        """GPUs of a node, and nodes."""
        run = self._trained(wildcards)
        return (run.gpus, run.nodes) if run else (1, 1)

    def _several(self, wildcards, value: object) -> object:
        """A value that a training on several nodes alone has."""
        return value if self._run(wildcards)[1] > 1 else None

    # ---- What is done and needs nothing ---------------------------------------------------------------------------

    @cached_property
    def _settled(self) -> Settled:
        return Settled(self.layout)

    @cached_property
    def _spares(self) -> bool:
        """Whether all that is asked for is a table or metrics, and nothing shall be made though it is there."""
        asked = self.workflow.dag_settings
        made = [*self.layout.outputs("table").values(), "all", "table"]
        targets = [target for target in asked.targets if target not in made and "/metrics/" not in target]
        return not (targets or asked.forceall or asked.forcerun or asked.target_jobs)

    def _there(self, path: str) -> bool:
        return self._place(path).exists()

    def _place(self, path: str) -> Path:
        """Where a path is, which a module may have moved."""
        return Path(self.moved.modify(path))

    # ---- What people read when something failed -------------------------------------------------------------------

    def failed(self, log: str | Sequence[str]) -> None:
        """Say last, after all that Snakemake says, which jobs of a run failed and why."""
        for path in _listed(log):
            run = read_run(Path(path), Path(path).read_text(encoding="utf-8", errors="replace"))
            jobs = [job for job in run.jobs.values() if job.state == FAILED]
            for job in jobs[:SHOWN]:
                why = last_line(job).removeprefix(ERROR) or "its log is empty"
                self.last_words.append(f"{why} ({job.rule}: {job.log.split(', ')[0]})")
            if len(jobs) > SHOWN:
                self.last_words.append(f"and {len(jobs) - SHOWN} more jobs failed; `vlret status` lists them")

    def _mistake(self, error: InputError) -> WorkflowError:
        """A mistake as Snakemake takes it, which is said again behind its traceback."""
        self.last_words.append(str(error))
        return WorkflowError(str(error))

    def _say_last(self) -> None:
        for message in dict.fromkeys(self.last_words):
            print(f"{ERROR}{message}", file=sys.stderr)

    # ---- Jobs and their settings -----------------------------------------------------------------------------------

    def _job(self, rule: str, wildcards) -> Job:
        try:
            return self.layout.job(rule, {name: str(value) for name, value in wildcards.items()})
        except InputError as error:
            raise self._mistake(error) from None

    def _settings(self, rule: str, job: Job, wildcards) -> str:
        """The file of a job's settings, whose name says what is in it, and whose time when it was first asked for.

        Settings that were never asked for are newer than any result, and the job runs, whether or not Snakemake knows
        how the result was made. A result whose note tells of these settings is not older than they are; one whose note
        tells of others is.
        """
        path = SETTINGS.format(rule=rule, digest=job.known())
        said = self._said(rule, wildcards)
        if said not in (None, job.known_by()):
            return local(self._aside(rule, job, "-".join(map(str, wildcards))))
        if not Path(path).is_file():
            if not self._executes():
                path = self._aside(rule, job, "asked")
            else:
                write_json(Path(path), job.settings)
        return local(path) if said is None else ancient(local(path))

    def _said(self, rule: str, wildcards) -> dict | None:
        """What the note beside a job's result says of its settings; None without a note."""
        made = next(iter(self.layout.outputs(rule).values())).format(**wildcards)
        note = note_of(self._place(made))
        if not note.is_file():
            return None
        told = read_json(note)
        return {key: told.get(key) for key in ("verb", "version", "settings")}

    def _aside(self, rule: str, job: Job, name: str) -> str:
        """The same as a file that is newer than any result, but not below `results/`."""
        path = Path(ASIDE) / "settings" / rule / f"{job.known()}.{name}.json"
        path.touch() if path.is_file() else write_json(path, job.settings, durable=False)
        return str(path)

    def _executes(self) -> bool:
        return self.workflow.executor_plugin is not None and not self.workflow.dryrun


def _flagged(file: File) -> str:
    """A path as Snakemake takes it: the user's own stay where they are, and those known otherwise have no age."""
    if file.rule is not None:
        return str(file)
    return ancient(local(str(file))) if file.known else local(str(file))


def _listed(paths: object) -> list[str]:
    """One path or several as a list; nothing where there are none."""
    return [paths] if isinstance(paths, str) else list(paths or ())


def _is_file(path: str) -> bool:
    return "." in path.rpartition("/")[2].replace("{scatteritem}", "")


def _any(names) -> str:
    """A regular expression for one of some names; it matches nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"
