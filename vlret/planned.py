"""The jobs of a dry run, why they would run, and how long they took before."""

import csv
import heapq
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

from vlret.asked import Asked
from vlret.experiment import Experiment, training_of
from vlret.files import InputError, read_json
from vlret.jobs import STARTED
from vlret.layout import OUTPUTS, TRAININGS, Layout
from vlret.made import note_of

FIELD = re.compile(r"\s{4,8}(input|output|benchmark|reason|wildcards): (.*)")
SETTINGS = re.compile(r"(results|\.snakemake)/settings/")
MISSING, UPDATED, AFTER = "Missing output files", "Updated input files", "Input files updated by another job"
NOT_MADE, FORCED, DEFAULT = "not made yet", "forced, with --forcerun or a similar option", "(default)"
ORDER = {rule: place for place, rule in enumerate(OUTPUTS)}
ON_GPUS = frozenset((*TRAININGS, "embed", "embed_questions", "ablate", "features"))


@dataclass
class Planned:
    """A job that Snakemake would run.

    Attributes
    ----------
    rule, wildcards, benchmark
        As in the Snakefile's rules.
    inputs, outputs
        Paths.
    reason
        Snakemake's reasons, each with the files it names.
    """

    rule: str
    wildcards: Mapping[str, str]
    inputs: Sequence[str]
    outputs: Sequence[str]
    benchmark: str
    reason: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        """The rule and its wildcards, on one line."""
        return " ".join([self.rule, *self.wildcards.values()])


def dry_run(asked: Asked, target: str) -> list[Planned]:
    """The jobs that Snakemake would run for a target; if it fails, an `InputError` with its last line."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", *asked.words(), "--", target]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if answer.returncode:
        lines = [line for line in answer.stdout.splitlines() if line.strip()]
        raise InputError(f"snakemake --dry-run failed: {lines[-1].strip().removeprefix('vlret: error: ')}")
    # In the order of the work, since Snakemake's own differs from time to time.
    return sorted(parsed(answer.stdout), key=lambda job: (ORDER.get(job.rule, 0), job.name))


def parsed(output: str) -> list[Planned]:
    """The jobs in the output of a dry run."""
    jobs, entry = [], None
    for line in output.splitlines():
        if found := STARTED.match(line):
            entry = {"rule": found[1]}
            jobs.append(entry)
        elif line[:4] != "    ":
            entry = None
        elif entry is not None and (found := FIELD.match(line)):
            entry[found[1]] = found[2]
    return [
        Planned(
            rule=job["rule"],
            wildcards=dict(pair.split("=", 1) for pair in job.get("wildcards", "").split(", ") if pair),
            inputs=job.get("input", "").split(", "),
            outputs=[path.removesuffix(" (update)") for path in job.get("output", "").split(", ")],
            benchmark=job.get("benchmark", ""),
            reason=_reasons(job.get("reason", "")),
        )
        for job in jobs
        if "output" in job
    ]


def _reasons(text: str) -> dict[str, list[str]]:
    parts = (part.partition(": ") for part in text.split("; ") if part)
    return {kind: files.split(", ") if files else [] for kind, _, files in parts}


# ---- Why -----------------------------------------------------------------------------------------------------------


class Plan:
    """The jobs of a dry run as a graph, with their causes.

    Parameters
    ----------
    layout
        The layout of the config.
    jobs
        All jobs that would run.
    """

    def __init__(self, layout: Layout, jobs: Sequence[Planned]):
        self.layout, self.jobs = layout, jobs
        makers = {path: row for row, job in enumerate(jobs) for path in job.outputs}
        # An input may be inside a folder that a job makes.
        self.before = [
            {makers[place] for path in job.inputs for place in _places(path) if place in makers} - {row}
            for row, job in enumerate(jobs)
        ]

    @cached_property
    def after(self) -> list[list[int]]:
        """The jobs that read each job's results."""
        found: list[list[int]] = [[] for _ in self.jobs]
        for row, before in enumerate(self.before):
            for each in before:
                found[each].append(row)
        return found

    @cached_property
    def order(self) -> list[int]:
        """Positions of the jobs in topological order."""
        return list(TopologicalSorter(dict(enumerate(self.before))).static_order())

    @cached_property
    def causes(self) -> list[tuple[str, ...]]:
        """Each job's own causes; empty if it only depends on other jobs that run."""
        return [tuple(dict.fromkeys(self._causes(row))) for row in range(len(self.jobs))]

    @cached_property
    def roots(self) -> list[tuple[str, ...]]:
        """Each job's own causes and those of all jobs it depends on."""
        found: dict[int, tuple[str, ...]] = {}
        for row in self.order:
            inherited = [cause for each in sorted(self.before[row]) for cause in found[each]]
            found[row] = tuple(dict.fromkeys([*self.causes[row], *inherited]))
        return [found[row] for row in range(len(self.jobs))]

    def _causes(self, row: int) -> Iterable[str]:
        job = self.jobs[row]
        # Snakemake does not name newer files of jobs that run anyway, such as the settings.
        changes = self._changes(job)
        yield from changes
        for kind, files in job.reason.items():
            if kind == UPDATED:
                newer = [f"{file} changed" for file in files if not SETTINGS.match(file)]
                yield from newer
                if len(newer) < len(files) and not changes:
                    yield "made with other settings, which were not recorded"
            elif kind == MISSING:
                if AFTER not in job.reason:
                    yield NOT_MADE
            elif kind == "Forced execution":
                yield FORCED
            elif kind != AFTER:
                yield f"{kind}: {', '.join(files)}".removesuffix(": ")

    def _changes(self, job: Planned) -> list[str]:
        """The settings of a job that changed since its result was made, with old and new values."""
        note = note_of(self.layout.place(job.outputs[0]))
        if not note.is_file():
            return []
        known = self.layout.job(job.rule, job.wildcards).known_by()
        recorded = read_json(note)
        if recorded.get("version") != known["version"]:
            return [f"a new version of `vlret {known['verb']}`"]
        before, after = _flat(recorded.get("settings", {})), _flat(known["settings"])
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        # The rows of a table are listed with the digests of all that they are made from.
        return [
            "the table's rows" if key == "rows" else f"{key}: {before.get(key, DEFAULT)} → {after.get(key, DEFAULT)}"
            for key in keys
        ]

    # ---- How long -----------------------------------------------------------------------------------------------

    @cached_property
    def seconds(self) -> list[float | None]:
        """Duration of each job's last run, or its rule's median; None if no job of the rule has run."""
        medians = {rule: self._median(rule) for rule in {job.rule for job in self.jobs}}
        return [self.last(job) or medians[job.rule] for job in self.jobs]

    def last(self, job: Planned) -> float | None:
        """The duration of a job's last run in seconds, if known."""
        return _seconds(self.layout.place(job.benchmark)) if job.benchmark else None

    def _median(self, rule: str) -> float | None:
        pattern = re.sub(r"{\w+}", "*", self.layout.beside(rule, "benchmarks", ".tsv"))
        times = [seconds for path in Path().glob(pattern) if (seconds := _seconds(path))]
        return statistics.median(times) if times else None

    def gpus(self, job: Planned) -> int:
        """The number of GPUs that a job occupies."""
        if job.rule not in ON_GPUS or self.layout.config.compute.environment != "gpu":
            return 0
        experiment = Experiment.parse(job.wildcards["experiment"]) if job.rule in TRAININGS else None
        run = training_of(self.layout.config, experiment) if experiment else None
        return run.gpus * run.nodes if run else 1

    def gpu_hours(self, jobs: Iterable[Planned], seconds: Iterable[float | None]) -> float:
        """The GPU-hours of jobs that take so long; unknown times count as 0."""
        return sum((each or 0) * self.gpus(job) for job, each in zip(jobs, seconds, strict=True)) / 3600

    def longest(self) -> float:
        """Duration of the longest chain of dependent jobs in seconds; unknown times count as 0."""
        ends: dict[int, float] = {}
        for row in self.order:
            ends[row] = (self.seconds[row] or 0) + max((ends[each] for each in self.before[row]), default=0)
        return max(ends.values(), default=0)

    def scheduled(self, slots: int) -> float:
        """Seconds until the last job ends, with up to `slots` jobs in parallel."""
        return max((end for _, end in self.spans(slots).values()), default=0)

    def spans(
        self, slots: int, urgent: Callable[[int], bool] = lambda row: False, unknown: float = 0.0
    ) -> dict[int, tuple[float, float]]:
        """Each job's start and end in seconds, with up to `slots` jobs in parallel.

        Of the jobs that could start, `urgent` ones do first, then in the plan's order; `unknown` stands for durations
        that are not known.
        """
        place = {row: number for number, row in enumerate(self.order)}
        left = {row: len(before) for row, before in enumerate(self.before)}
        ready = [(not urgent(row), place[row], row) for row in self.order if not left[row]]
        running: list[tuple[float, int]] = []
        spans: dict[int, tuple[float, float]] = {}
        heapq.heapify(ready)
        now = 0.0
        while ready or running:
            while ready and len(running) < slots:
                row = heapq.heappop(ready)[2]
                spans[row] = now, now + (self.seconds[row] or unknown)
                heapq.heappush(running, (spans[row][1], row))
            now, ended = heapq.heappop(running)
            for row in self.after[ended]:
                left[row] -= 1
                if not left[row]:
                    heapq.heappush(ready, (not urgent(row), place[row], row))
        return spans


def _places(path: str) -> list[str]:
    return [path, *map(str, Path(path).parents)]


def _flat(value: object, path: str = "") -> dict[str, object]:
    """Nested settings as `{dotted key: value}`, without a leading `settings`."""
    if not isinstance(value, Mapping) or not value:
        return {path or "all": value}
    found = {}
    for key, part in value.items():
        inside = "" if not path and key == "settings" and isinstance(part, Mapping) else f"{path}.{key}".lstrip(".")
        found |= _flat(part, inside)
    return found


def _seconds(path: Path) -> float | None:
    """The wall-clock seconds in one of Snakemake's benchmark files; None if missing."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return float(rows[0]["s"]) if rows else None
