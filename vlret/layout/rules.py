"""The interface between the Snakefile's rules and `vlret.layout`."""

import atexit
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient, directory, local, temp
from snakemake.settings.types import DeploymentMethod

from vlret.config import DEFAULT, MODELS, check, load_config, read
from vlret.data.own import absence, shown
from vlret.experiment import Experiment, training_of
from vlret.files import InputError, read_json, write_json
from vlret.jobs import FAILED, last_line, read_run
from vlret.layout.counted import check_batches
from vlret.layout.job import File, Job
from vlret.layout.jobs import Layout
from vlret.layout.machine import without_gpu
from vlret.layout.paths import REMADE, SETTINGS, TRAININGS
from vlret.layout.settled import Settled
from vlret.made import note_of
from vlret.settings import EXPERIMENT, PART, SPLITS, Config, TrainingRun

SHOWN, ERROR = 10, "vlret: error: "  # failed jobs whose messages are shown, and their prefix
ASIDE = ".snakemake"  # for files of dry-runs, which do not write to results/


class Rules:
    """Inputs, outputs, options and resources of every rule of a config.

    Parameters
    ----------
    workflow, config
        Snakemake's.
    root
        The folder that contains `config/`.
    """

    def __init__(self, workflow, config: Mapping, root: Path):
        self.last_words: list[str] = []
        atexit.register(self._say_last)
        self.workflow, self.moved = workflow, workflow.modifier.path_modifier
        try:
            self.layout = Layout(self._read(config, root), root, self._place)
            check_batches(self.layout)
        except InputError as error:
            raise self._mistake(error) from None
        self.config = self.layout.config

    def _read(self, config: Mapping, root: Path) -> Config:
        """Reread the config files, since Snakemake's merge cannot remove keys; use a module's config as given."""
        if self.workflow.modifier.skip_configfile:
            return check([(MODELS, read(root / MODELS)), ("the module's config", config)])
        files = [shown(Path(file)) for file in self.workflow.configfiles or [root / DEFAULT]]
        return load_config(files, root, self.workflow.config_settings.config)

    def start(self) -> None:
        """Raise a `WorkflowError` before the first job for problems that would otherwise surface hours later."""
        workflow, conda = self.workflow, DeploymentMethod.CONDA
        jobs = [] if workflow.touch else list(workflow.dag.needrun_jobs())
        if absent := [job.wildcards.file for job in jobs if job.rule.name == "by_hand"]:
            message = "; ".join(absence(Path(file)) for file in sorted(absent))
            raise self._mistake(InputError(f"{message}; docs/experiments.md says where published ones come from"))
        # Cluster jobs run on other machines, and conda jobs with another torch.
        if workflow.local_exec and conda not in workflow.deployment_settings.deployment_method:
            self._check_precision(job for job in jobs if job.rule.name in TRAININGS)

    def _check_precision(self, jobs: Iterable) -> None:
        """Reject fp16 training without a GPU."""
        for job in jobs:
            run = self._trained(job.wildcards)
            if run and run.precision == "fp16" and (reason := without_gpu()):
                message = (
                    f"training.precision: fp16 needs a GPU, and {reason}; use bf16 or fp32, or a machine that has one"
                )
                raise self._mistake(InputError(f"{message} (of {job.wildcards.experiment})"))

    # ---- Parts of a rule ---------------------------------------------------------------------------------------------

    def made(self, rule: str) -> dict[str, str]:
        """The outputs of a rule by name; paths without a suffix are folders; shards may be temporary."""
        paths = self.layout.outputs(rule)
        made = {name: path if _is_file(path) else directory(path) for name, path in paths.items()}
        return {name: temp(path) for name, path in made.items()} if self.layout.temporary(rule) else made

    def log(self, rule: str) -> str:
        """The log path of a rule."""
        return self.layout.beside(rule, "logs", ".log")

    def benchmark(self, rule: str) -> str:
        """The benchmark path of a rule."""
        return self.layout.beside(rule, "benchmarks", ".tsv")

    def reads(self, rule: str) -> Callable:
        """The input function of a rule: files by name, including the settings file."""

        def inputs(wildcards):
            job = self._job(rule, wildcards)
            spared = self._spares and self._settled.spared(wildcards.get("experiment"))
            flagged = self._left if spared else _all_flagged
            read = {name: flagged(paths) for name, paths in {**job.files(), "watched": job.watched}.items()}
            files: dict[str, object] = {name: paths for name, paths in read.items() if paths}
            if job.known():
                files["settings"] = self._settings(rule, job, wildcards)
            return files

        return inputs

    def _left(self, files: Sequence[File]) -> list[str]:
        """Of the inputs of finished rows those that were not deleted; the times of what is made again do not matter."""
        there = [file for file in files if self._there(file)]
        return [ancient(_flagged(file)) if file.rule in REMADE else _flagged(file) for file in there]

    def known(self, rule: str) -> Callable:
        """The digest of a job's settings, for Snakemake to compare with the last run."""
        return lambda wildcards: self._job(rule, wildcards).known() or ""

    def options(self, rule: str) -> Callable:
        """The command-line options of a job, except outputs."""

        def words(wildcards, input):
            job = self._job(rule, wildcards)
            places = {name: _listed(input.get(name)) for name in job.files()}
            if any(len(places[name]) != len(files) for name, files in job.files().items()):
                return "# skipped: its results are done and its inputs were deleted"
            return " ".join([*([shlex.quote(f"@{input.settings}")] if job.known() else []), job.options(places)])

        return words

    # ---- Wildcard constraints ----------------------------------------------------------------------------------------

    def datasets(self, *keys: str) -> str:
        """A regular expression for the datasets whose source has one of these keys."""
        found = [name for name, entry in self.config.datasets.items() if {*keys} & entry.source.given().keys()]
        return _any(found)

    def cut(self) -> str:
        """A regular expression for the datasets whose articles are cut into passages."""
        return _any([name for name, entry in self.config.datasets.items() if entry.passages])

    def experiments(self, *kinds: str) -> str:
        """A regular expression for the experiments with models of these kinds."""
        models = [name for name, model in self.config.models.items() if model.kind in kinds]
        return f"({_any(models)})_{PART}_{PART}_{PART}"

    @property
    def constraints(self) -> dict[str, str]:
        """The constraints of all wildcards."""
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

    # ---- Resources of training -------------------------------------------------------------------------------------

    def cores(self, wildcards) -> int:
        """Cores per node of a training: `compute.threads` for each GPU."""
        return self.config.compute.threads * self._run(wildcards)[0]

    def places(self) -> dict[str, Callable]:
        """Cluster resources of a training. On several nodes, Slurm's plugin starts one command, which runs `srun`."""
        return {
            "gres": lambda wildcards: f"gpu:{self._run(wildcards)[0]}",
            "processes": lambda wildcards: self._run(wildcards)[0],
            "nodes": lambda wildcards: self._run(wildcards)[1],
            "tasks": lambda wildcards: self._several(wildcards, self._run(wildcards)[1]),
            "tasks_per_gpu": lambda wildcards: self._several(wildcards, 0),
            "mpi": lambda wildcards: self._several(wildcards, "srun"),
        }

    def _trained(self, wildcards) -> TrainingRun | None:
        return training_of(self.config, Experiment.parse(wildcards.experiment))

    def _run(self, wildcards) -> tuple[int, int]:
        """GPUs per node, and nodes."""
        run = self._trained(wildcards)
        return (run.gpus, run.nodes) if run else (1, 1)

    def _several(self, wildcards, value: object) -> object:
        """`value` for a training on several nodes, else None."""
        return value if self._run(wildcards)[1] > 1 else None

    # ---- Finished rows --------------------------------------------------------------------------------------------

    @cached_property
    def _settled(self) -> Settled:
        return Settled(self.layout)

    @cached_property
    def _spares(self) -> bool:
        """Whether only tables or metrics are requested, and no job is forced."""
        asked = self.workflow.dag_settings
        made = [*self.layout.outputs("table").values(), "all", "table"]
        targets = [target for target in asked.targets if target not in made and "/metrics/" not in target]
        return not (targets or asked.forceall or asked.forcerun or asked.target_jobs)

    def _there(self, path: str) -> bool:
        return self._place(path).exists()

    def _place(self, path: str) -> Path:
        """The actual place of a path; a module may move results, but not the user's own files."""
        own = isinstance(path, File) and path.rule is None
        return Path(path if own else self.moved.modify(path))

    # ---- Error messages -------------------------------------------------------------------------------------------

    def failed(self, log: str | Sequence[str]) -> None:
        """Report failed jobs and their errors, after all of Snakemake's output."""
        for path in _listed(log):
            run = read_run(Path(path), Path(path).read_text(encoding="utf-8", errors="replace"))
            jobs = [job for job in run.jobs.values() if job.state == FAILED]
            for job in jobs[:SHOWN]:
                why = last_line(job).removeprefix(ERROR) or "its log is empty"
                self.last_words.append(f"{why} ({job.rule}: {job.log.split(', ')[0]})")
            if len(jobs) > SHOWN:
                self.last_words.append(f"and {len(jobs) - SHOWN} more jobs failed; `vlret status` lists them")

    def _mistake(self, error: InputError) -> WorkflowError:
        """The error as a `WorkflowError`; its message is repeated after Snakemake's traceback."""
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
        """The settings file of a job: its name is a digest of the settings, its time that of their first use.

        New settings are newer than any result, so the job runs even if Snakemake has no record of how the result was
        made. A result whose note records the same settings counts as newer than the file, any other as older.
        """
        path = SETTINGS.format(rule=rule, digest=job.known())
        recorded = self._said(rule, wildcards)
        if recorded not in (None, job.known_by()):
            return local(self._aside(rule, job, "-".join(map(str, wildcards))))
        if not Path(path).is_file():
            if not self._executes():
                path = self._aside(rule, job, "asked")
            else:
                write_json(Path(path), job.settings)
        return local(path) if recorded is None else ancient(local(path))

    def _said(self, rule: str, wildcards) -> dict | None:
        """Verb, version and settings in the note beside a job's result; None without a note."""
        made = next(iter(self.layout.outputs(rule).values())).format(**wildcards)
        note = note_of(self._place(made))
        if not note.is_file():
            return None
        recorded = read_json(note)
        return {key: recorded.get(key) for key in ("verb", "version", "settings")}

    def _aside(self, rule: str, job: Job, name: str) -> str:
        """A settings file outside `results/` that is newer than any result."""
        path = Path(ASIDE) / "settings" / rule / f"{job.known()}.{name}.json"
        path.touch() if path.is_file() else write_json(path, job.settings, durable=False)
        return str(path)

    def _executes(self) -> bool:
        return self.workflow.executor_plugin is not None and not self.workflow.dryrun


def _flagged(file: File) -> str:
    """A path with Snakemake's flags: user's files are local; times of those identified by content are ignored."""
    if file.rule is not None:
        return str(file)
    return ancient(local(str(file))) if file.known else local(str(file))


def _all_flagged(files: Sequence[File]) -> list[str]:
    return list(map(_flagged, files))


def _listed(paths: object) -> list[str]:
    """One path or several as a list."""
    return [paths] if isinstance(paths, str) else list(paths or ())


def _is_file(path: str) -> bool:
    return "." in path.rpartition("/")[2].replace("{scatteritem}", "")


def _any(names) -> str:
    """A regular expression for one of the names; matches nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"
